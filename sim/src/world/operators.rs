//! The operators: clients of the controllers that change the placement of shards and ask for it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use eraft::client::{Client, ClientOptions, Found, Outcome, Which};
use eraft::proto::ctrler::change::Change as Of;
use eraft::proto::ctrler::{Change, Create, Group, GroupIds, Groups, Move};
use eraft::types::{ConfigNum, GroupId, NodeId};
use madsim::runtime::NodeHandle;
use madsim::task::JoinHandle;

use super::World;
use crate::invariants::configs::{Asked, Told};
use crate::outcome::Violation;
use crate::places::{self, Place};
use crate::scenario::{Command, CommandKind};
use crate::workload::{AGAIN, Phase};

/// One attempt at one controller takes at most this, and at most a third of the command's deadline.
const ATTEMPT_MS_MAX: u64 = 1_000;
/// Nodes of a group that exists in commands only.
const IMAGINED_NODES: u64 = 3;

/// How a command ended.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// It made this config.
    Made(ConfigNum),
    /// It was turned down for good, and why.
    Refused(String),
    /// What was found.
    Found(Box<Found>),
    /// Nobody knows, or nobody could be asked.
    Unknown(String),
}

impl World {
    /// Starts all operators; each resolves when it has done its work.
    pub(crate) fn start_operators(self: &Arc<Self>) -> Vec<JoinHandle<()>> {
        (1..=self.plan.configuration.operators.operators).map(|number| self.start_operator(number)).collect()
    }

    fn start_operator(self: &Arc<Self>, number: u64) -> JoinHandle<()> {
        let node = self.client_machine(places::OPERATORS + number);
        let world = self.clone();
        node.spawn(async move { world.operate(number).await })
    }

    async fn operate(self: Arc<Self>, number: u64) {
        let configuration = &self.plan.configuration;
        let of = |lists: &[Vec<Command>]| {
            usize::try_from(number - 1).ok().and_then(|place| lists.get(place)).cloned().unwrap_or_default()
        };
        let party = places::OPERATORS + number;
        let operator = self.operator("operator", party, configuration.operators.deadline_ms);
        if number == 1
            && configuration.cluster.groups == 0
            && configuration.cluster.shards != eraft::ctrler::SHARDS_DEFAULT as u64
        {
            self.create(&operator).await;
        }
        for command in of(&self.plan.commands) {
            madsim::time::sleep(Duration::from_millis(command.think_ms)).await;
            if self.phases.now() != Phase::Safety {
                break;
            }
            self.command(&operator, &command.kind).await;
        }
        self.phases.reached(Phase::Liveness).await;
        let operator = self.operator("patient operator", party, configuration.phases.acknowledge_ms);
        for command in of(&self.plan.liveness_commands) {
            madsim::time::sleep(Duration::from_millis(command.think_ms)).await;
            self.until_answered(&operator, &command.kind).await;
        }
        self.phases.reached(Phase::Final).await;
        self.until_answered(&operator, &CommandKind::Query(None)).await;
    }

    /// An operator beside those of the scenario, and the machine that it works on.
    pub(crate) async fn script_operator(
        self: &Arc<Self>,
        party: u64,
        deadline_ms: u64,
    ) -> (NodeHandle, Arc<Operator>) {
        let node = self.client_machine(party);
        let world = self.clone();
        let making =
            node.spawn(async move { Arc::new(world.operator("script operator", party, deadline_ms)) });
        (node, making.await.expect("nothing ends the machine of an operator"))
    }

    /// A client of the controllers, in the task of its own machine.
    fn operator(&self, domain: &str, party: u64, deadline_ms: u64) -> Operator {
        let attempt_ms = (deadline_ms / 3).clamp(1, ATTEMPT_MS_MAX);
        let options =
            ClientOptions { attempt_ms, ..self.options_towards(Place::Ctrlers, party, deadline_ms) };
        let client = Client::new(options, self.client_surroundings(domain, party), None);
        Operator { party, client, deadline: Duration::from_millis(deadline_ms) }
    }

    /// Sets the number of shards, before anything else.
    pub(super) async fn create(&self, operator: &Operator) {
        let shards = self.plan.configuration.cluster.shards;
        let create = Change { change: Some(Of::Create(Create { shards })) };
        while let Answer::Unknown(_) = self.change(operator, create.clone(), "create").await {
            madsim::time::sleep(AGAIN).await;
        }
    }

    /// After the faults a command is tried as often as it takes, but not for ever.
    async fn until_answered(&self, operator: &Operator, command: &CommandKind) {
        let begun = self.time.elapsed();
        let acknowledge = Duration::from_millis(self.plan.configuration.phases.acknowledge_ms);
        loop {
            let Answer::Unknown(why) = self.command(operator, command).await else { return };
            let waited = self.time.elapsed() - begun;
            if waited >= acknowledge {
                let message = format!(
                    "{}: `{command}` was not answered within {} ms after the faults had stopped: {why}",
                    places::client_name(operator.party),
                    waited.as_millis()
                );
                if self.watcher.checks("sim.liveness") {
                    let (oracle, fingerprint) = ("sim.liveness", "sim.liveness: not answered");
                    let (oracle, fingerprint) = (oracle.to_owned(), fingerprint.to_owned());
                    self.watcher.violate(Violation { oracle, fingerprint, message });
                }
                return;
            }
            madsim::time::sleep(AGAIN).await;
        }
    }

    /// One command, to its end.
    pub(crate) async fn command(&self, operator: &Operator, command: &CommandKind) -> Answer {
        match command {
            CommandKind::Query(number) => self.query(operator, *number, &command.to_string()).await,
            _ => self.change(operator, self.change_of(command), &command.to_string()).await,
        }
    }

    async fn change(&self, operator: &Operator, change: Change, words: &str) -> Answer {
        let of = change.change.clone().expect("an operator's change is one");
        let open = self.watcher.asked(Asked::Change(change));
        let name = places::client_name(operator.party);
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.watcher.note(&name, "client.invoke", words);
        let entry =
            self.outstanding.begin(operator.party, words.to_owned(), self.time.elapsed() + operator.deadline);
        let changed = operator.client.change(of).await;
        drop(entry);
        let answer = match changed {
            Outcome::Ok(num) => Answer::Made(num),
            // Only the machine's own words are a judgement; a session may end for other reasons.
            Outcome::Refused(refused) if !refused.unavailable && !refused.detail.contains("session") => {
                Answer::Refused(refused.detail)
            }
            Outcome::Refused(refused) => Answer::Unknown(refused.detail),
            Outcome::Unknown(detail) => Answer::Unknown(detail),
        };
        match &answer {
            Answer::Made(num) => self.watcher.told(&open, &Told::Made(*num)),
            Answer::Refused(_) => self.watcher.told(&open, &Told::Refused),
            _ => {}
        }
        self.returned(&name, words, &answer);
        answer
    }

    async fn query(&self, operator: &Operator, number: Option<u64>, words: &str) -> Answer {
        let number = number.map(ConfigNum);
        let open = self.watcher.asked(Asked::Query(number));
        let name = places::client_name(operator.party);
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.watcher.note(&name, "client.invoke", words);
        let entry =
            self.outstanding.begin(operator.party, words.to_owned(), self.time.elapsed() + operator.deadline);
        let queried = operator.client.query(number.map_or(Which::Latest, Which::Num)).await;
        drop(entry);
        let answer = match queried {
            Outcome::Ok(found) => {
                self.watcher.told(&open, &Told::Config(found.config.clone(), found.oldest, found.latest));
                Answer::Found(Box::new(found))
            }
            Outcome::Refused(refused) => Answer::Unknown(refused.detail),
            Outcome::Unknown(detail) => Answer::Unknown(detail),
        };
        self.returned(&name, words, &answer);
        answer
    }

    fn returned(&self, name: &str, words: &str, answer: &Answer) {
        let word = match answer {
            Answer::Made(num) => format!("config-{num}"),
            Answer::Refused(_) => "refused".to_owned(),
            Answer::Found(found) => format!("latest-{}", found.latest),
            Answer::Unknown(_) => "unknown".to_owned(),
        };
        self.watcher.note(name, "client.return", &format!("{words} {word}"));
    }

    /// A command as the controllers take it. A question is none.
    fn change_of(&self, command: &CommandKind) -> Change {
        let named = |groups: &BTreeSet<GroupId>| {
            let group = |group: &GroupId| Group { group: group.0, addresses: self.addresses_of(*group) };
            Groups { groups: groups.iter().map(group).collect() }
        };
        let change = match command {
            CommandKind::Join(groups) => Some(Of::Join(named(groups))),
            CommandKind::Leave(groups) => {
                Some(Of::Leave(GroupIds { groups: groups.iter().map(|group| group.0).collect() }))
            }
            CommandKind::Move(shard, group) => Some(Of::Move(Move { shard: *shard, group: group.0 })),
            CommandKind::Unpin(shard) => Some(Of::Unpin(*shard)),
            CommandKind::Rollback(number) => Some(Of::Rollback(*number)),
            CommandKind::Query(_) => None,
        };
        Change { change }
    }

    /// Where the nodes of a group are, or would be.
    pub(crate) fn addresses_of(&self, group: GroupId) -> Vec<String> {
        let nodes: Vec<NodeId> = match self.nodes_of(Place::Group(group)) {
            nodes if nodes.is_empty() => {
                (1..=IMAGINED_NODES).map(|number| Place::Group(group).node(number)).collect()
            }
            nodes => nodes,
        };
        nodes.into_iter().map(|node| places::address(node).to_string()).collect()
    }
}

/// A client of the controllers.
pub(crate) struct Operator {
    party: u64,
    client: Client,
    /// What it asks is over by then.
    deadline: Duration,
}
