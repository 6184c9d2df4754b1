//! The probe: commands of the script, proposed at a replica directly, past network and clients.
//!
//! A command appends its own number to one key, in the probe's session. So the log shows where it went, and the state
//! shows that it took effect, in which order, and how often.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use eraft::kv::{KvAnswer, KvQuery, KvReply};
use eraft::proto::kv::{
    Append, ClientId, Command, Execute, Mutation, OpenSession, command, mutation, mutation_result,
};
use eraft::replica::Decision;
use eraft::replica::timers::Moment;
use eraft::types::{Index, NodeId};
use futures_util::future::join_all;
use madsim::time::{sleep, timeout};
use prost::Message as _;

use super::{Held, LOOK_EVERY, Script, until};
use crate::scenario::Step;
use crate::world::World;

/// The probe's session.
const PROBE: ClientId = ClientId { high: 0x70_726f_6265, low: 0 };
/// The key that its commands append to.
const KEY: &[u8] = b"script";
/// So many numbers may overtake a later one; well within a session's window.
const NUMBERS_OPEN_MAX: u64 = 32;
/// After this, a command that was not applied is proposed again.
const ATTEMPT: Duration = Duration::from_secs(2);
/// A leader puts a proposal into its log within this.
const PLACED_WITHIN: Duration = Duration::from_secs(1);
/// Opening the session, and the script's last agreement, take at most this.
const OPEN_WITHIN: Duration = Duration::from_secs(10);

/// A command and its number.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    number: u64,
    command: Bytes,
}

/// The script's commands so far; shared with what runs beside the script.
pub(super) struct Probe {
    world: Arc<World>,
    /// The last number used.
    number: AtomicU64,
    /// Numbers whose proposer was told that they took effect.
    acknowledged: Mutex<BTreeSet<u64>>,
}

/// What the script's own steps remember of commands.
#[derive(Default)]
pub(super) struct Proposed {
    is_open: bool,
    /// The commands of the last `propose`.
    commands: Vec<Asked>,
    /// Where the last of them landed.
    last: Option<Index>,
}

fn encode(operation: command::Operation) -> Bytes {
    Command { time_ms: 0, limits: None, operation: Some(operation) }.encode_to_vec().into()
}

fn never() -> Moment {
    Moment(Duration::MAX)
}

/// How commands are agreed on.
#[derive(Clone, Copy)]
pub(super) struct Terms {
    pub(super) on: u64,
    pub(super) bytes: u64,
    pub(super) at_first: bool,
    pub(super) within: Duration,
}

impl Probe {
    pub(super) fn new(world: Arc<World>) -> Arc<Self> {
        Arc::new(Self { world, number: AtomicU64::new(0), acknowledged: Mutex::default() })
    }

    /// The next command, with a value of at least so many bytes.
    pub(super) fn command(&self, bytes: u64) -> Asked {
        let number = self.number.fetch_add(1, Ordering::Relaxed) + 1;
        let mut value = number.to_string();
        while (value.len() as u64) + 1 < bytes {
            value.push('.');
        }
        value.push(',');
        let append = Append { key: Bytes::from_static(KEY), value: value.into() };
        let execute = Execute {
            client: Some(PROBE),
            sequence: number,
            acknowledged_below: number.saturating_sub(NUMBERS_OPEN_MAX),
            mutation: Some(Mutation { operation: Some(mutation::Operation::Append(append)) }),
        };
        let command = encode(command::Operation::Execute(execute));
        self.world.watcher.expect(command.clone());
        Asked { number, command }
    }

    /// Proposes a command at a node and does not wait. False: the node does not run.
    pub(super) fn submit(self: &Arc<Self>, node: NodeId, asked: &Asked) -> bool {
        let Some(replica) = self.world.replica(node) else { return false };
        let (probe, asked) = (self.clone(), asked.clone());
        self.world.spawn(async move {
            if let Decision::Done(KvReply::Mutation(result), _) =
                replica.propose(asked.command, never()).await
                && matches!(result.result, Some(mutation_result::Result::Done(_)))
            {
                probe.acknowledged().insert(asked.number);
            }
        });
        true
    }

    /// Has some node applied the command?
    pub(super) fn is_applied(&self, asked: &Asked) -> bool {
        self.world.watcher.fate(&asked.command).applied.is_some()
    }

    fn acknowledged(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Script {
    /// The probe's session is open before its first command.
    pub(super) async fn open_session(&mut self) -> Held {
        let started = self.world.time.elapsed();
        while !self.proposed.is_open {
            if self.world.time.elapsed() - started >= OPEN_WITHIN {
                return Err(format!("no session within {} ms", OPEN_WITHIN.as_millis()));
            }
            let replica = self.leader().and_then(|leader| self.world.replica(leader));
            let Some(replica) = replica else {
                sleep(LOOK_EVERY).await;
                continue;
            };
            let open = encode(command::Operation::OpenSession(OpenSession { client: Some(PROBE) }));
            match timeout(ATTEMPT, replica.propose(open, never())).await {
                Ok(Decision::Done(KvReply::SessionOpened, _)) => self.proposed.is_open = true,
                _ => sleep(LOOK_EVERY).await,
            }
        }
        Ok(())
    }

    pub(super) async fn log_step(&mut self, step: &Step) -> Held {
        self.open_session().await?;
        match step {
            Step::Agree { commands, on, bytes, at_once, at_first, in_order, within_ms } => {
                let within = Duration::from_millis(*within_ms);
                let terms = Terms { on: *on, bytes: *bytes, at_first: *at_first, within };
                if *at_once {
                    return self.agree_at_once(*commands, terms).await;
                }
                for _ in 0..*commands {
                    if *in_order { self.agree_in_order(terms).await? } else { self.agree(terms).await? }
                }
                Ok(())
            }
            Step::Propose { at, commands, ahead } => {
                let at = self.node(at)?;
                self.propose(at, *commands, *ahead).await
            }
            Step::Committed { on, within_ms } => {
                let commands = &self.proposed.commands;
                let is_committed = || commands.iter().all(|asked| is_applied(&self.world, asked, *on));
                match until(Duration::from_millis(*within_ms), is_committed).await {
                    true => Ok(()),
                    false => {
                        Err(format!("not all commands were applied by {on} nodes within {within_ms} ms"))
                    }
                }
            }
            Step::NotCommitted { for_ms } => {
                sleep(Duration::from_millis(*for_ms)).await;
                let fates =
                    self.proposed.commands.iter().map(|asked| self.world.watcher.fate(&asked.command));
                match fates.filter_map(|fate| fate.applied).next() {
                    Some(index) => Err(format!("index {index} was applied without a majority")),
                    None => Ok(()),
                }
            }
            _ => Err("is about no command".to_owned()),
        }
    }

    /// One command is applied by so many nodes.
    pub(super) async fn agree(&mut self, terms: Terms) -> Held {
        let asked = self.probe.command(terms.bytes);
        self.pursue(&asked, terms).await
    }

    async fn agree_at_once(&mut self, commands: u64, terms: Terms) -> Held {
        let commands: Vec<Asked> = (0..commands).map(|_| self.probe.command(terms.bytes)).collect();
        let all = join_all(commands.iter().map(|asked| self.pursue(asked, terms))).await;
        all.into_iter().collect()
    }

    async fn agree_in_order(&mut self, terms: Terms) -> Held {
        let leader = self.leader().ok_or("nobody leads")?;
        let faces = self.world.watcher.faces();
        let next = faces.get(&leader).map(|face| face.last).unwrap_or_default().next();
        if let Some((node, _)) = faces.iter().find(|(_, face)| face.applied >= next) {
            return Err(format!("{node} has applied index {next} before anything was proposed there"));
        }
        let asked = self.probe.command(terms.bytes);
        self.pursue(&asked, terms).await?;
        match self.world.watcher.fate(&asked.command).applied {
            Some(index) if index == next => Ok(()),
            index => Err(format!("a command landed at {}, not at {next}", index.unwrap_or_default())),
        }
    }

    /// Proposes a command, again and again, until it is applied by enough nodes.
    async fn pursue(&self, asked: &Asked, terms: Terms) -> Held {
        let started = self.world.time.elapsed();
        let left = || terms.within.saturating_sub(self.world.time.elapsed() - started);
        let enough = || is_applied(&self.world, asked, terms.on);
        while left() > Duration::ZERO {
            let Some(leader) = self.leader().filter(|leader| self.probe.submit(*leader, asked)) else {
                if until(LOOK_EVERY, enough).await {
                    return Ok(());
                }
                continue;
            };
            if until(ATTEMPT.min(left()), enough).await {
                return Ok(());
            }
            if terms.at_first {
                return Err(format!(
                    "{leader} took a command, and nothing came of it in {} ms",
                    ATTEMPT.as_millis()
                ));
            }
        }
        let (on, within) = (terms.on, terms.within.as_millis());
        Err(format!("{on} nodes did not agree on a command within {within} ms"))
    }

    async fn propose(&mut self, at: NodeId, commands: u64, ahead: Option<(u64, u64)>) -> Held {
        if !self.world.watcher.faces().get(&at).is_some_and(|face| face.is_leader) {
            return Err(format!("{at} does not lead"));
        }
        let commands: Vec<Asked> = (0..commands).map(|_| self.probe.command(0)).collect();
        if !commands.iter().all(|asked| self.probe.submit(at, asked)) {
            return Err(format!("{at} takes no command"));
        }
        let watcher = self.world.watcher.clone();
        let placed = || -> Option<Vec<Index>> {
            commands.iter().map(|asked| watcher.fate(&asked.command).placed).collect()
        };
        until(PLACED_WITHIN, || placed().is_some()).await;
        let Some(places) = placed() else {
            return Err(format!("{at} did not take all commands into its log"));
        };
        let first = places.iter().min().copied().unwrap_or_default();
        if let (Some((least, most)), Some(before)) = (ahead, self.proposed.last)
            && !(before.0 + least..=before.0 + most).contains(&first.0)
        {
            return Err(format!("a command landed at {first}, not {least} to {most} after {before}"));
        }
        self.proposed.last = places.iter().max().copied();
        self.proposed.commands = commands;
        Ok(())
    }

    /// At the end: everything that was acknowledged is in every replica's state, once.
    pub(super) async fn kept(&mut self) -> Held {
        if !self.proposed.is_open {
            return Ok(());
        }
        self.world.end_all();
        self.cut.clear();
        self.world.node_ids().into_iter().for_each(|node| self.start(node));
        let on = self.world.node_ids().len() as u64;
        self.agree(Terms { on, bytes: 0, at_first: false, within: OPEN_WITHIN }).await?;
        let acknowledged = self.probe.acknowledged().clone();
        let mut first: Option<(NodeId, Vec<u64>)> = None;
        for node in self.world.node_ids() {
            let numbers = self.numbers(node).await?;
            let mut counts: BTreeMap<u64, u64> = BTreeMap::new();
            numbers.iter().for_each(|number| *counts.entry(*number).or_default() += 1);
            if let Some((number, _)) = counts.iter().find(|(_, count)| **count > 1) {
                return Err(format!("command {number} took effect more than once on {node}"));
            }
            if let Some(lost) = acknowledged.iter().find(|number| !counts.contains_key(number)) {
                return Err(format!("command {lost} was acknowledged and is not in the state of {node}"));
            }
            let (one, before) = first.get_or_insert_with(|| (node, numbers.clone()));
            if *before != numbers {
                return Err(format!("{one} and {node} hold the commands in different orders"));
            }
        }
        self.world.watcher.claim();
        Ok(())
    }

    /// The commands in the state of `node`, in order.
    async fn numbers(&self, node: NodeId) -> Result<Vec<u64>, String> {
        let replica = self.world.replica(node).ok_or_else(|| format!("{node} does not run"))?;
        let query = KvQuery::Get { key: Bytes::from_static(KEY) };
        match replica.query(query, true, never()).await {
            Decision::Done(KvAnswer::Value { value }, _) => {
                let text = String::from_utf8_lossy(&value.unwrap_or_default()).into_owned();
                let pieces = text.split(',').filter(|piece| !piece.is_empty());
                let number =
                    |piece: &str| piece.trim_end_matches('.').parse::<u64>().map_err(|why| why.to_string());
                pieces.map(number).collect()
            }
            other => Err(format!("{node} does not answer a read of its own state: {other:?}")),
        }
    }
}

/// Have `on` nodes that run applied the command, or a snapshot behind it?
fn is_applied(world: &World, asked: &Asked, on: u64) -> bool {
    let Some(index) = world.watcher.fate(&asked.command).applied else { return false };
    let faces = world.watcher.faces();
    faces.values().filter(|face| face.is_up && face.applied >= index).count() as u64 >= on
}
