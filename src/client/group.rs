//! One group's members, and the attempts to get something done there.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::connection::{Connection, Lost};
use super::session::Session;
use super::{ClientOptions, Outcome, Refused};
use crate::buggify::Point;
use crate::proto::kv::{self as pb, RefusedReason, reply, request};
use crate::random::{Draw, Site};
use crate::replica::Surroundings;
use crate::replica::timers::{Clock, Moment};
use crate::types::{ConfigNum, NodeId, ShardId};

/// A client that is forced to be hasty waits this fraction of the time for an answer.
const HASTE: u32 = 32;

/// What all parts of a client share.
pub(super) struct Context {
    pub options: ClientOptions,
    pub surroundings: Surroundings,
    jitter: Mutex<Site>,
    ids: Mutex<Site>,
}

impl Context {
    pub(super) fn new(options: ClientOptions, surroundings: Surroundings) -> Arc<Self> {
        let jitter = Mutex::new(surroundings.draws.site("client-backoff", options.number));
        let ids = Mutex::new(surroundings.draws.site("client-id", options.number));
        Arc::new(Self { options, surroundings, jitter, ids })
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.surroundings.clock
    }

    /// A draw for the next session's id.
    pub(super) fn draw_id(&self) -> Draw {
        self.ids.lock().expect("nothing panics while it draws").next()
    }

    /// When an operation that begins now must have ended.
    pub(super) fn deadline(&self) -> Moment {
        self.clock().now().after(Duration::from_millis(self.options.deadline_ms))
    }
}

/// Something to be done, wherever.
pub(super) struct Ask<'a> {
    pub operation: request::Operation,
    /// Of a sharded store: the shard that it is for.
    pub shard: Option<ShardId>,
    /// The session that it is part of. An attempt without an answer may then have changed something.
    pub session: Option<&'a Session>,
}

impl Ask<'_> {
    /// What changes nothing, or nothing that counts.
    pub(super) fn new(operation: request::Operation) -> Self {
        Self { operation, shard: None, session: None }
    }
}

/// Where attempts go.
pub(super) trait Way {
    /// Tries until there is an answer or the deadline passes.
    fn attempts(&self, ask: &Ask<'_>, deadline: Moment) -> impl Future<Output = Outcome<pb::Done>> + Send;
}

/// The members of one group.
pub(super) struct Group {
    context: Arc<Context>,
    connections: BTreeMap<NodeId, Connection>,
    /// The node to ask first: the last one that led.
    first: AtomicU64,
}

impl Group {
    /// Connects when it is used.
    pub(super) fn new(context: Arc<Context>, members: &BTreeMap<NodeId, SocketAddr>) -> Self {
        let connection = |(node, address): (&NodeId, &SocketAddr)| {
            let connection = Connection::new(*node, *address, &context.options, context.surroundings.clone());
            (*node, connection)
        };
        let connections = members.iter().map(connection).collect();
        let first = members.keys().next().map_or(0, |node| node.0);
        Self { context, connections, first: AtomicU64::new(first) }
    }

    /// The node to ask first.
    pub(super) fn first(&self) -> NodeId {
        NodeId(self.first.load(Ordering::Relaxed))
    }

    /// How many members there are.
    pub(super) fn size(&self) -> usize {
        self.connections.len()
    }

    /// Asks another node first from now on.
    pub(super) fn turn(&self) {
        self.first.store(self.after(self.first()).0, Ordering::Relaxed);
    }

    /// The node after `node`, in a ring.
    fn after(&self, node: NodeId) -> NodeId {
        let mut following =
            self.connections.range((std::ops::Bound::Excluded(node), std::ops::Bound::Unbounded));
        let next = following.next().or_else(|| self.connections.iter().next());
        next.map_or(node, |(next, _)| *next)
    }
}

impl Way for Group {
    async fn attempts(&self, ask: &Ask<'_>, deadline: Moment) -> Outcome<pb::Done> {
        let mut attempts = Attempts::new(&self.context, ask, deadline);
        let mut node = self.first();
        if self.context.surroundings.buggify.forces(Point::ForgetfulClient) {
            node = self.after(node);
        }
        while attempts.has_time() {
            match attempts.at(self, node).await {
                Step::Ended(outcome) => return outcome,
                Step::Again(hint) => node = attempts.follow(self, node, hint).await,
                Step::Elsewhere(_) | Step::NotArrived => return attempts.turned_down(),
            }
        }
        attempts.given_up()
    }
}

/// What one attempt came to.
pub(super) enum Step {
    /// That is the end of it.
    Ended(Outcome<pb::Done>),
    /// Another node or time may help; the node that may lead.
    Again(Option<NodeId>),
    /// The shard is not of that group, by the config that it has adopted.
    Elsewhere(ConfigNum),
    /// The shard is on its way there.
    NotArrived,
}

/// The attempts at one operation, at one group or several.
pub(super) struct Attempts<'a> {
    context: &'a Context,
    ask: &'a Ask<'a>,
    deadline: Moment,
    backoff_ms: u64,
    maybe_taken: bool,
    last: String,
}

impl<'a> Attempts<'a> {
    pub(super) fn new(context: &'a Context, ask: &'a Ask<'a>, deadline: Moment) -> Self {
        let backoff_ms = context.options.backoff_ms.0;
        let last = "no node could be asked".to_owned();
        Self { context, ask, deadline, backoff_ms, maybe_taken: false, last }
    }

    pub(super) fn has_time(&self) -> bool {
        self.context.clock().now() < self.deadline
    }

    /// One attempt at `node` of `group`.
    pub(super) async fn at(&mut self, group: &Group, node: NodeId) -> Step {
        let (step, detail) = match self.call(group, node).await {
            Ok(reply) => self.judge(group, node, reply),
            Err(Lost::NotSent(detail)) => (Step::Again(None), detail),
            Err(Lost::Sent(detail)) => {
                self.maybe_taken |= self.ask.session.is_some();
                (Step::Again(None), detail)
            }
            Err(Lost::TurnedAway(detail)) => {
                self.last = format!("{node}: {detail}");
                return Step::Ended(self.turned_down());
            }
        };
        self.note(format!("{node}: {detail}"));
        step
    }

    async fn call(&self, group: &Group, node: NodeId) -> Result<pb::Reply, Lost> {
        let Some(connection) = group.connections.get(&node) else {
            return Err(Lost::NotSent("has no address".to_owned()));
        };
        let left = self.deadline.since(self.context.clock().now());
        let mut left = left.min(Duration::from_millis(self.context.options.attempt_ms));
        if self.context.surroundings.buggify.forces(Point::HastyClient) {
            left /= HASTE;
        }
        let deadline_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1);
        let request = pb::Request {
            id: 0,
            deadline_ms,
            operation: Some(self.ask.operation.clone()),
            shard: self.ask.shard.map(|shard| shard.0),
        };
        connection.call(request, left).await
    }

    fn judge(&mut self, group: &Group, node: NodeId, reply: pb::Reply) -> (Step, String) {
        let hint = |leader: u64| (leader != 0).then_some(NodeId(leader));
        let refused = match reply.outcome {
            Some(reply::Outcome::Done(done)) => {
                group.first.store(node.0, Ordering::Relaxed);
                return (Step::Ended(Outcome::Ok(done)), String::new());
            }
            Some(reply::Outcome::Unknown(unknown)) => {
                self.maybe_taken |= self.ask.session.is_some();
                return (Step::Again(hint(unknown.leader)), unknown.detail);
            }
            Some(reply::Outcome::Refused(refused)) => refused,
            None => {
                self.maybe_taken |= self.ask.session.is_some();
                return (Step::Again(None), "a reply without an outcome".to_owned());
            }
        };
        let step = match refused.reason() {
            RefusedReason::RefusedNotLeader
            | RefusedReason::RefusedOverloaded
            | RefusedReason::RefusedDeadline
            | RefusedReason::RefusedUnhealthy => Step::Again(hint(refused.leader)),
            RefusedReason::RefusedElsewhere => Step::Elsewhere(ConfigNum(refused.config)),
            RefusedReason::RefusedNotArrived => Step::NotArrived,
            reason => {
                if let (RefusedReason::RefusedSessionExpired, Some(session)) = (reason, self.ask.session) {
                    session.forget();
                }
                self.last.clone_from(&refused.detail);
                Step::Ended(self.turned_down())
            }
        };
        (step, refused.detail)
    }

    /// What went wrong last.
    pub(super) fn note(&mut self, detail: String) {
        self.last = detail;
    }

    /// The next node of `group`, after a pause if that helps. A hint is followed at once the first time; hints that
    /// lead in circles are slowed down.
    pub(super) async fn follow(&mut self, group: &Group, node: NodeId, hint: Option<NodeId>) -> NodeId {
        let followed = hint.filter(|hint| *hint != node && group.connections.contains_key(hint));
        if followed.is_none() || self.backoff_ms > self.context.options.backoff_ms.0 {
            self.pause().await;
        } else {
            self.slow_down();
        }
        followed.unwrap_or_else(|| group.after(node))
    }

    /// Waits, longer each time.
    pub(super) async fn pause(&mut self) {
        let jitter = &self.context.jitter;
        let pause_ms = jitter
            .lock()
            .expect("nothing panics while it draws")
            .next()
            .between(self.backoff_ms / 2, self.backoff_ms);
        let clock = self.context.clock();
        let pause = Duration::from_millis(pause_ms).min(self.deadline.since(clock.now()));
        clock.sleep(pause).await;
        self.slow_down();
    }

    fn slow_down(&mut self) {
        self.backoff_ms = self.context.options.backoff_ms.1.min(self.backoff_ms * 2);
    }

    /// The outcome if someone says that trying on does not help.
    pub(super) fn turned_down(&self) -> Outcome<pb::Done> {
        let detail = self.last.clone();
        if self.maybe_taken {
            Outcome::Unknown(format!("an earlier attempt may have been taken; then: {detail}"))
        } else {
            Outcome::Refused(Refused { unavailable: false, detail })
        }
    }

    /// The outcome if nobody answered in time.
    pub(super) fn given_up(&self) -> Outcome<pb::Done> {
        let last = &self.last;
        if self.maybe_taken {
            Outcome::Unknown(format!("no answer before the deadline; last, {last}"))
        } else {
            let detail = format!("nobody took it before the deadline; last, {last}");
            Outcome::Refused(Refused { unavailable: true, detail })
        }
    }
}
