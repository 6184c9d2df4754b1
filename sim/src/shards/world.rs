//! One run: what happens when, and what is under way, which is lost, repeated, late and out of order.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use eraft::ctrler::{Config, CtrlerQuery};
use eraft::mutants::Mutants;
use eraft::proto::ctrler::{self as pb, change::Change as Of};
use eraft::proto::shardkv::command::Operation;
use eraft::shardkv::{Answered, Chore, Errand, Question, ShardReply, adopt, due};
use eraft::types::{ConfigNum, GroupId, ShardId};

use super::clients::{Request, Wants, Wrong};
use super::cluster::{Cluster, Served, place_of};
use super::group::{Map, is_served};
use super::judge;
use super::stats::Stats;
use super::swarm::{Action, Swarm};
use crate::core::dice::Dice;
use crate::core::seeds::note_step;

/// What may be under way at a time; more is lost.
const MAIL_MAX: usize = 64;

/// A group's worker.
#[derive(Clone, Debug)]
struct Worker {
    under_way: BTreeSet<Errand>,
    /// A replica that others may ask, if it is behind.
    behind: Option<Map>,
    is_up: bool,
}

/// Something under way.
#[derive(Clone, Debug)]
enum Mail {
    /// From the worker at a place to the group of another one.
    Ask { from: usize, shard: ShardId, chore: Chore },
    /// For the log of a group, from its own worker.
    Enter { to: usize, operation: Operation, ends: Option<Errand> },
    /// From a client.
    Request { to: usize, request: Request },
}

pub(super) struct World {
    pub swarm: Swarm,
    pub stats: Stats,
    pub dice: Dice,
    pub cluster: Cluster,
    workers: Vec<Worker>,
    mail: VecDeque<Mail>,
    /// The config that each client knows.
    known: BTreeMap<u64, usize>,
}

impl World {
    pub fn new(seed: u64, mutants: Mutants) -> Self {
        let mut dice = Dice::new(seed);
        let swarm = Swarm::draw(&mut dice);
        let worker = Worker { under_way: BTreeSet::new(), behind: None, is_up: true };
        Self {
            stats: Stats::default(),
            cluster: Cluster::new(swarm.groups, swarm.shards, swarm.history_configs, mutants),
            workers: vec![worker; swarm.groups as usize],
            mail: VecDeque::new(),
            known: BTreeMap::new(),
            swarm,
            dice,
        }
    }

    /// Everything that the seed draws.
    pub fn run(&mut self) -> Result<(), Wrong> {
        for _ in 0..self.swarm.actions {
            let place = self.dice.below(self.cluster.seen.len());
            match self.swarm.action(&mut self.dice) {
                Action::Deliver => self.deliver()?,
                Action::Work => self.work(place),
                Action::Follow => self.follow(place)?,
                Action::Report => self.report(place),
                Action::Change => self.change()?,
                Action::Client => self.ask(),
                Action::Lead => self.workers[place].under_way.clear(),
                Action::Stop => self.workers[place].is_up ^= true,
                Action::Lag => {
                    let worker = &mut self.workers[place];
                    let map = worker.behind.is_none().then(|| self.cluster.seen[place].group.map.clone());
                    worker.behind = map;
                }
                Action::Stray => self.stray(place),
            }
        }
        Ok(())
    }

    fn send(&mut self, mail: Mail) {
        if self.mail.len() >= MAIL_MAX {
            self.mail.pop_front();
        }
        self.mail.push_back(mail);
    }

    fn deliver(&mut self) -> Result<(), Wrong> {
        if self.mail.is_empty() {
            return Ok(());
        }
        let is_reordered = self.dice.percent(self.swarm.reorder_percent);
        let at = if is_reordered { self.dice.below(self.mail.len()) } else { 0 };
        let mail = if self.dice.percent(self.swarm.duplicate_percent) {
            self.mail[at].clone()
        } else {
            self.mail.remove(at).expect("it is there")
        };
        if self.dice.percent(self.swarm.drop_percent) {
            return Ok(());
        }
        if let Some(answer) = self.arrive(mail)? {
            self.send(answer);
        }
        Ok(())
    }

    /// What comes of it when `mail` arrives; an answer that is to be sent.
    fn arrive(&mut self, mail: Mail) -> Result<Option<Mail>, Wrong> {
        match mail {
            Mail::Ask { from, shard, chore } => {
                let Some((group, question)) = chore.question(shard) else { return Ok(None) };
                let source = place_of(group);
                if !self.workers[source].is_up {
                    return Ok(None);
                }
                let answered = self.answer(source, question)?;
                let command = answered.and_then(|answered| chore.command(shard, Some(answered)));
                let ends = Some(chore.errand(shard));
                Ok(command.map(|operation| Mail::Enter { to: from, operation, ends }))
            }
            Mail::Enter { to, operation, ends } => {
                if let Some(errand) = ends {
                    self.workers[to].under_way.remove(&errand);
                }
                if self.workers[to].is_up {
                    self.enter(to, operation)?;
                }
                Ok(None)
            }
            Mail::Request { to, request } => {
                if self.workers[to].is_up {
                    self.serve(to, &request)?;
                }
                Ok(None)
            }
        }
    }

    fn answer(&mut self, source: usize, question: Question) -> Result<Option<Answered>, Wrong> {
        let confirms = matches!(question, Question::Confirm(_));
        self.stats.steps += u64::from(confirms);
        note_step(self.stats.steps);
        let behind = self.workers[source].behind.as_ref().filter(|_| self.dice.percent(50));
        let (answer, wrote) = self.cluster.answer(source, question, self.swarm.pairs_max, behind)?;
        self.stats.confirmed_again += u64::from(confirms && answer.is_some() && !wrote);
        Ok(answer)
    }

    /// An entry of the group at `place`; whether anything was written.
    fn enter(&mut self, place: usize, operation: Operation) -> Result<bool, Wrong> {
        self.stats.steps += 1;
        note_step(self.stats.steps);
        let deletes = matches!(operation, Operation::Delete(_));
        let entered = self.cluster.enter(place, operation)?;
        self.stats.duplicate_chunks += u64::from(entered.reply == ShardReply::Inserted(false));
        self.stats.adopted += u64::from(entered.wrote && matches!(entered.reply, ShardReply::Adopted(_)));
        self.stats.left_out += u64::from(entered.left_out);
        self.stats.arrived += entered.arrived;
        self.stats.returned += entered.returned;
        self.stats.deletes += u64::from(deletes && entered.wrote);
        Ok(entered.wrote)
    }

    /// A client's request at the group at `place`; whether it was done.
    fn serve(&mut self, place: usize, request: &Request) -> Result<bool, Wrong> {
        self.stats.steps += 1;
        note_step(self.stats.steps);
        let served = self.cluster.serve(place, request)?;
        let is_done = matches!(served, Served::Done | Served::Again);
        match request.wants {
            Wants::Read => self.stats.reads += u64::from(is_done),
            Wants::Append { .. } => {
                self.stats.appends += u64::from(is_done);
                self.stats.retries += u64::from(served == Served::Again);
            }
            Wants::Open => {}
        }
        if served == Served::Redirected {
            self.stats.redirected += 1;
            self.known.insert(request.client, self.cluster.controllers.configs.len() - 1);
        }
        if is_done && !self.dice.percent(self.swarm.drop_percent) {
            self.cluster.clients.acknowledge(request);
        }
        Ok(is_done)
    }

    fn ask(&mut self) {
        let client = 1 + self.dice.below(self.swarm.clients as usize) as u64;
        let shard = ShardId(self.dice.below(self.swarm.shards as usize) as u64);
        let (retries, reads) = (self.dice.percent(50), self.dice.percent(30));
        let request = self.cluster.clients.next(client, shard, retries, reads);
        let known = self.known.entry(client).or_insert(0);
        let owner =
            self.cluster.controllers.configs[*known].placement(shard).and_then(|placement| placement.owner);
        let to = match owner {
            Some(owner) if !self.dice.percent(self.swarm.astray_percent) => place_of(owner),
            _ => {
                *known = self.cluster.controllers.configs.len() - 1;
                self.dice.below(self.cluster.seen.len())
            }
        };
        self.send(Mail::Request { to, request });
    }

    /// The worker at `place` starts what is due.
    fn work(&mut self, place: usize) {
        for (shard, chore) in self.due(place, &BTreeSet::new()) {
            match chore.question(shard) {
                None => {
                    let Some(operation) = chore.command(shard, None) else { continue };
                    self.send(Mail::Enter { to: place, operation, ends: Some(chore.errand(shard)) });
                }
                Some(_) => self.send(Mail::Ask { from: place, shard, chore }),
            }
        }
        // What was not answered in time is begun again.
        if self.dice.percent(20) {
            self.workers[place].under_way.pop_first();
        }
    }

    /// What the worker at `place` starts now, but for what was `tried`. Nobody can be asked whose address is not known.
    fn due(&mut self, place: usize, tried: &BTreeSet<Errand>) -> Vec<(ShardId, Chore)> {
        if !self.workers[place].is_up {
            return Vec::new();
        }
        let mut chores = self.cluster.seen[place].group.chores();
        chores.todo.retain(|(shard, chore)| !tried.contains(&chore.errand(*shard)));
        let under_way = &mut self.workers[place].under_way;
        let mut due = due(&chores.todo, under_way, self.swarm.per_source_max);
        due.retain(|(shard, chore)| {
            chore.question(*shard).is_none_or(|(group, _)| chores.addresses.contains_key(&group))
        });
        under_way.extend(due.iter().map(|(shard, chore)| chore.errand(*shard)));
        due
    }

    /// The group at `place` asks for its next config.
    fn follow(&mut self, place: usize) -> Result<(), Wrong> {
        if !self.workers[place].is_up {
            return Ok(());
        }
        let entries = self.dice.below(4);
        self.cluster.controllers.catch_up(entries);
        let behind = self.dice.percent(30);
        if let Some(operation) = self.cluster.next_config(place, behind)? {
            self.send(Mail::Enter { to: place, operation, ends: None });
        }
        Ok(())
    }

    fn report(&mut self, place: usize) {
        if self.workers[place].is_up {
            self.cluster.report(place);
        }
    }

    /// Whatever a worker proposes, the machine must refuse what is not due.
    fn stray(&mut self, place: usize) {
        let config =
            &self.cluster.controllers.configs[self.dice.below(self.cluster.controllers.configs.len())];
        let oldest = if self.dice.percent(50) { self.cluster.controllers.oldest() } else { ConfigNum(0) };
        let operation = Operation::Adopt(adopt(config, oldest));
        self.send(Mail::Enter { to: place, operation, ends: None });
    }

    fn change(&mut self) -> Result<(), Wrong> {
        let change = self.draw_change();
        match self.cluster.change(&change)? {
            Some(_) => self.stats.configs += 1,
            None => self.stats.refused += 1,
        }
        let num = ConfigNum(self.dice.below(self.cluster.controllers.configs.len()) as u64);
        self.cluster.controllers.catch_up(2);
        for (query, behind) in
            [(CtrlerQuery::Num(num), false), (CtrlerQuery::Latest, false), (CtrlerQuery::Latest, true)]
        {
            self.cluster.ask(&query, behind)?;
        }
        Ok(())
    }

    fn draw_change(&mut self) -> Of {
        let dice = &mut self.dice;
        let config = self.cluster.controllers.latest();
        let is_error = dice.percent(self.swarm.error_percent);
        let some = |dice: &mut Dice, joined: bool| {
            let fits = |id: &u64| is_error || config.groups.contains_key(&GroupId(*id)) == joined;
            let chosen: Vec<u64> =
                (1..=self.swarm.groups).filter(fits).filter(|_| dice.percent(50)).collect();
            chosen
        };
        let at = |dice: &mut Dice, ids: Vec<u64>| {
            let version = dice.below(3);
            let group = |group: u64| pb::Group {
                group,
                addresses: match is_error && dice.percent(20) {
                    true => Vec::new(),
                    false => vec![format!("10.{version}.0.{group}:1")],
                },
            };
            pb::Groups { groups: ids.into_iter().map(group).collect() }
        };
        let extra = u64::from(is_error);
        let shard = dice.below((self.swarm.shards + extra) as usize) as u64;
        let group = (1 - extra.min(1)) + dice.below((self.swarm.groups + extra) as usize) as u64;
        match dice.below(12) {
            0..=3 => {
                let ids = some(dice, false);
                Of::Join(at(dice, ids))
            }
            4..=6 => Of::Leave(pb::GroupIds { groups: some(dice, true) }),
            7..=8 => Of::Move(pb::Move { shard, group }),
            9 => Of::Unpin(shard),
            10 => {
                let ids = some(dice, true);
                Of::Update(at(dice, ids))
            }
            _ => Of::Rollback(dice.below(self.cluster.controllers.configs.len()) as u64),
        }
    }
}

/// Everything heals, and then must be where it belongs.
impl World {
    pub fn prove_liveness(&mut self) -> Result<(), Wrong> {
        let late: Vec<Mail> = self.mail.drain(..).collect();
        for worker in &mut self.workers {
            worker.under_way.clear();
            worker.behind = None;
            worker.is_up = true;
        }
        if self.dice.percent(50) {
            let dead = self.dice.below(self.cluster.seen.len());
            self.workers[dead].is_up = false;
            self.settle()?;
            self.judge_without(dead)?;
            self.workers[dead].is_up = true;
        }
        self.settle()?;
        judge::settled(&self.cluster.seen, self.cluster.controllers.latest())?;
        for mail in late {
            let mut mail = Some(mail);
            while let Some(next) = mail {
                mail = self.arrive(next)?;
            }
        }
        self.settle()?;
        let config = self.cluster.controllers.latest().clone();
        judge::settled(&self.cluster.seen, &config)?;
        self.judge_compaction()?;
        for (shard, owner) in config.placements().filter_map(|(shard, is)| Some((shard, is.owner?))) {
            let client = self.swarm.clients + 1;
            let place = place_of(owner);
            self.swarm.drop_percent = 0;
            for wants in [Wants::Open, Wants::Append { sequence: 0, acknowledged_below: 0 }, Wants::Read] {
                if !self.serve(place, &Request { client, shard, wants: wants.clone() })? {
                    return Err((
                        "sim.liveness",
                        format!("shard {shard} at group {owner} refuses {wants:?}"),
                    ));
                }
            }
        }
        Ok(())
    }

    /// All who are up do what there is to do until nothing changes.
    fn settle(&mut self) -> Result<(), Wrong> {
        self.cluster.controllers.catch_up(usize::MAX);
        for _ in 0..SETTLE_ROUNDS_MAX {
            let mut is_quiet = true;
            for place in 0..self.cluster.seen.len() {
                if !self.workers[place].is_up {
                    continue;
                }
                while let Some(operation) = self.cluster.next_config(place, false)? {
                    if !self.enter(place, operation)? {
                        break;
                    }
                    is_quiet = false;
                }
                // Once each: what comes to nothing must not keep the place of what is behind it.
                let mut tried = BTreeSet::new();
                loop {
                    self.workers[place].under_way.clear();
                    let due = self.due(place, &tried);
                    if due.is_empty() {
                        break;
                    }
                    for (shard, chore) in due {
                        tried.insert(chore.errand(shard));
                        is_quiet &= !self.finish(place, shard, &chore)?;
                    }
                }
                self.report(place);
            }
            if is_quiet {
                return Ok(());
            }
        }
        Err(("sim.liveness", format!("it is not settled after {SETTLE_ROUNDS_MAX} rounds")))
    }

    /// Does one chore from end to end; whether anything was written.
    fn finish(&mut self, place: usize, shard: ShardId, chore: &Chore) -> Result<bool, Wrong> {
        let answer = match chore.question(shard) {
            None => None,
            Some((group, question)) => {
                let source = place_of(group);
                if !self.workers[source].is_up {
                    return Ok(false);
                }
                self.answer(source, question)?
            }
        };
        match chore.command(shard, answer) {
            Some(operation) => self.enter(place, operation),
            None => Ok(false),
        }
    }

    /// One group is dead: the others have every config, and every shard that never was there.
    fn judge_without(&mut self, dead: usize) -> Result<(), Wrong> {
        let config = self.cluster.controllers.latest();
        let gone = GroupId(dead as u64 + 1);
        for seen in self.cluster.seen.iter().filter(|seen| seen.group.id != gone) {
            if seen.adopted != config.num {
                let what = format!(
                    "group {} stays at config {} of {} while group {gone} is dead",
                    seen.group.id, seen.adopted, config.num
                );
                return Err(("sim.liveness", what));
            }
        }
        for (shard, placement) in config.placements() {
            let was_there = |config: &Config| {
                config.placement(shard).is_some_and(|placement| placement.owner == Some(gone))
            };
            let Some(owner) = placement.owner else { continue };
            if self.cluster.controllers.configs.iter().any(was_there) {
                continue;
            }
            self.stats.unaffected += 1;
            let seen = &self.cluster.seen[place_of(owner)];
            if !seen.of(shard).any(|held| is_served(held.state)) {
                let what =
                    format!("shard {shard} never was at group {gone}, which is dead, and is not served");
                return Err(("sim.liveness", what));
            }
        }
        Ok(())
    }

    /// Every group has reported the latest config, so no more are kept than operators want.
    fn judge_compaction(&mut self) -> Result<(), Wrong> {
        let latest = self.cluster.controllers.latest().num;
        let (oldest, history) = (self.cluster.controllers.oldest(), self.swarm.history_configs);
        match oldest.0 == latest.0.saturating_sub(history) {
            true => Ok(()),
            false => Err((
                "ctrler.compaction",
                format!("config {oldest} is kept; the latest is {latest}, and {history} are wanted besides"),
            )),
        }
    }
}

/// Far more rounds than chunks and configs of a run.
const SETTLE_ROUNDS_MAX: usize = 20_000;
