//! The driver's own rules, on a store in memory, without peers that answer.

use std::sync::Mutex;
use std::time::Duration;

use super::*;
use crate::buggify::Buggify;
use crate::kv::{KvLimits, KvMachine, KvQuery};
use crate::mutants::Mutants;
use crate::raft::{Body, Config, Membership};
use crate::random::Draws;
use crate::replica::link::Link;
use crate::replica::timers::Clock;
use crate::replica::{Replica, Service, Setup};
use crate::storage::memory::MemoryVolume;
use crate::types::{Index, Term};
use crate::view::Batch;

/// Keeps what the core was given and what it asked for, as text.
#[derive(Default)]
struct Journal(Mutex<Vec<String>>);

impl Observer for Journal {
    fn observe(&self, _: NodeId, event: &Observed<'_>) {
        if let Observed::Stepped { input, effects, .. } = event {
            let mut lines = self.0.lock().expect("the journal");
            lines.push(format!("{:?}", input.expect("asked for")));
            lines.extend(effects.iter().map(|effect| format!("  {effect:?}")));
        }
    }

    fn wants_inputs(&self) -> bool {
        true
    }
}

impl Journal {
    fn mentions(&self, text: &str) -> bool {
        self.0.lock().expect("the journal").iter().any(|line| line.contains(text))
    }
}

async fn replica(
    members: u64,
    options: Options,
    journal: Arc<Journal>,
    volume: Arc<MemoryVolume>,
) -> Replica<KvMachine> {
    let nobody = |node| (NodeId(node), "127.0.0.1:1".parse().expect("an address"));
    let nodes = (1..=members).map(nobody).collect();
    let identity = Identity { cluster_id: "test".into(), service: Service::Kv, id: NodeId(1), nodes };
    let surroundings = Surroundings {
        link: Link,
        clock: Clock::default(),
        draws: Draws::new(1, "driver-test"),
        buggify: Buggify,
    };
    let machine = KvMachine::new(KvLimits::default(), Mutants::default()).expect("valid limits");
    let config = Config::new(NodeId(1));
    let setup = Setup { machine, config, identity, options, surroundings, observer: journal, volume };
    Replica::open(setup).await.expect("it opens")
}

/// A heartbeat and the election timeout are there at the same moment: the heartbeat comes first and re-arms the
/// timer, so the timeout never reaches the core (eRaft turned a node into a candidate there: B13).
#[tokio::test]
async fn eraft_b13_a_heartbeat_in_the_same_batch_disarms_a_timeout_that_is_due() {
    let journal = Arc::new(Journal::default());
    let options = Options { heartbeat_ms: 50, election_timeout_ms: (200, 200), ..Options::default() };
    let replica = replica(3, options, journal.clone(), Arc::default()).await;
    let handle = replica.handle();
    let running = tokio::spawn(replica.run(std::future::pending()));
    tokio::task::yield_now().await;
    // One thread runs everything here, so the driver cannot look at its timers meanwhile.
    std::thread::sleep(Duration::from_millis(250));
    let body = Body::Heartbeat { commit: Index(0), round: 1 };
    let messages = vec![Message { term: Term(1), body }];
    assert!(handle.events.try_send(Event::Messages { from: NodeId(2), messages }).is_ok());
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(journal.mentions("Heartbeat { commit: Index(0), round: 1 }"), "the heartbeat was taken");
    assert!(!journal.mentions("Timeout(Election)"), "the timeout was taken although it was re-armed");
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(journal.mentions("Timeout(Election)"), "the re-armed timer fires in its time");
    running.abort();
}

async fn leader_of_one(
    volume: Arc<MemoryVolume>,
) -> (crate::replica::Handle<KvMachine>, oneshot::Sender<()>) {
    let options = Options { heartbeat_ms: 5, election_timeout_ms: (10, 20), ..Options::default() };
    let replica = replica(1, options, Arc::default(), volume).await;
    let handle = replica.handle();
    let (stop, stopped) = oneshot::channel::<()>();
    tokio::spawn(replica.run(async {
        let _ = stopped.await;
    }));
    while handle.status().await.is_some_and(|status| status.role != "leader") {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    (handle, stop)
}

fn soon() -> Moment {
    Moment(Duration::from_secs(3600))
}

fn open_session(client: u64) -> Bytes {
    use crate::proto::kv as pb;
    use prost::Message as _;
    let open = pb::OpenSession { client: Some(pb::ClientId { high: 1, low: client }) };
    let operation = Some(pb::command::Operation::OpenSession(open));
    pb::Command { time_ms: 1, limits: None, operation }.encode_to_vec().into()
}

#[tokio::test]
async fn eraft_b04_a_failed_write_ends_the_replica_and_nothing_is_acknowledged_after_it() {
    let volume = Arc::new(MemoryVolume::default());
    let (handle, _stop) = leader_of_one(volume.clone()).await;
    let first = handle.propose(open_session(1), soon()).await;
    assert!(matches!(first, Decision::Done(..)), "{first:?}");
    let error = StorageError::Io { action: "writing".into(), reason: "input/output error".into() };
    assert!(volume.fail_next_write("log", error));
    let second = handle.propose(open_session(2), soon()).await;
    assert!(matches!(second, Decision::Unknown(_)), "{second:?}");
    let third = handle.propose(open_session(3), soon()).await;
    assert!(matches!(third, Decision::Refused(Denial::Unhealthy)), "{third:?}");
    assert!(handle.status().await.is_none(), "the replica has stopped");
}

#[tokio::test]
async fn a_request_whose_time_is_up_is_refused_before_it_is_proposed() {
    let (handle, _stop) = leader_of_one(Arc::default()).await;
    let before = handle.status().await.expect("it runs").log_last;
    let late = handle.propose(open_session(1), Moment(Duration::ZERO)).await;
    assert_eq!(late, Decision::Refused(Denial::Deadline));
    assert_eq!(handle.status().await.expect("it runs").log_last, before);
}

/// The state is ahead of the log, as after a crash between the switch to a snapshot and the log's reset.
#[tokio::test]
async fn a_state_ahead_of_the_log_resets_the_log_at_open_and_one_behind_it_refuses() {
    use super::super::state::{APPLIED_KEY, Summary};
    use prost::Message as _;

    let members = Membership::of([NodeId(1)]);
    let base = |index, term| crate::raft::Base {
        position: Position { index: Index(index), term: Term(term) },
        membership: members.clone(),
    };
    let volume = MemoryVolume::default();
    let state = volume.open("state.0").await.expect("it opens");
    let mut batch = Batch::new();
    batch.put(APPLIED_KEY, Summary { base: base(9, 4), ..Summary::empty(&members) }.record().encode_to_vec());
    state.write(batch).await.expect("it writes");
    drop(state);
    let opened = open(&volume, Config::new(NodeId(1)), &members).await.expect("it recovers");
    assert_eq!(opened.raft.log().base(), base(9, 4).position);
    assert_eq!(opened.raft.hard().term, Term(4), "the term of the state is not forgotten");
    drop(opened);

    // The state is lost while the log goes on from 10.
    volume.remove("state.0").await.expect("it is removed");
    let Err(error) = open(&volume, Config::new(NodeId(1)), &members).await else {
        panic!("entries are missing, so it must not start");
    };
    assert_eq!(
        error.to_string(),
        "the log starts at 10 but the state ends at 0: the entries between are missing; \
         this data directory cannot be used any more"
    );
}

/// eRaft closed its database under tasks that went on using it (B20).
#[tokio::test]
async fn eraft_b20_when_a_replica_has_stopped_nobody_holds_its_stores() {
    let volume = Arc::new(MemoryVolume::default());
    let (handle, stop) = leader_of_one(volume.clone()).await;
    assert!(matches!(handle.propose(open_session(1), soon()).await, Decision::Done(..)));
    stop.send(()).expect("it runs");
    while handle.status().await.is_some() {
        tokio::task::yield_now().await;
    }
    for name in ["log", "state.0"] {
        assert!(volume.open_store(name).is_ok(), "{name} is still open");
    }
}

/// A leader's entry is replaced by another leader's at the same index; who waits must not get that one's reply. eRaft
/// told the waiter of an index whatever was applied there (B21).
#[tokio::test]
async fn eraft_b21_a_waiter_never_gets_the_reply_of_another_entry_at_its_index() {
    let journal = Arc::new(Journal::default());
    let options = Options { heartbeat_ms: 20, election_timeout_ms: (40, 40), ..Options::default() };
    let replica = replica(3, options, journal.clone(), Arc::default()).await;
    let handle = replica.handle();
    let running = tokio::spawn(replica.run(std::future::pending()));
    let says = |from, term, body| {
        let messages = vec![Message { term: Term(term), body }];
        assert!(handle.events.try_send(Event::Messages { from: NodeId(from), messages }).is_ok());
    };
    while !journal.mentions("PreVote { last") {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    says(2, 1, Body::PreVoteReply { granted: true });
    while !journal.mentions("body: Vote {") {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    says(2, 1, Body::VoteReply { granted: true });
    while handle.status().await.expect("it runs").role != "leader" {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let (reply, mut decided) = oneshot::channel();
    let propose = Event::Propose { command: open_session(1), deadline: soon(), reply };
    assert!(handle.events.try_send(propose).is_ok());
    while !journal.mentions("Proposed {") {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let entry = |index, payload| crate::raft::Entry { index: Index(index), term: Term(2), payload };
    let entries =
        vec![entry(1, crate::raft::Payload::Noop), entry(2, crate::raft::Payload::Command(open_session(2)))];
    says(3, 2, Body::Append { previous: Position::default(), entries, commit: Index(2) });
    while handle.status().await.expect("it runs").applied < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let decision = decided.try_recv().expect("it is told something");
    assert!(matches!(decision, Decision::Unknown(_)), "{decision:?}");
    running.abort();
}

/// Who leads next is told once it is known; a transfer that is given up is told as that, and what was refused meanwhile
/// says where leadership is going.
#[tokio::test]
async fn a_transfer_ends_with_who_leads_or_is_given_up() {
    let journal = Arc::new(Journal::default());
    let options = Options { heartbeat_ms: 20, election_timeout_ms: (60, 60), ..Options::default() };
    let replica = replica(3, options, journal.clone(), Arc::default()).await;
    let handle = replica.handle();
    let running = tokio::spawn(replica.run(std::future::pending()));
    let says = |from, term, body| {
        let messages = vec![Message { term: Term(term), body }];
        assert!(handle.events.try_send(Event::Messages { from: NodeId(from), messages }).is_ok());
    };
    assert_eq!(handle.transfer(NodeId(2)).await, Err(TransferError::NotLeader(None)));
    while !journal.mentions("PreVote { last") {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    says(2, 1, Body::PreVoteReply { granted: true });
    while !journal.mentions("body: Vote {") {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    says(2, 1, Body::VoteReply { granted: true });
    while handle.status().await.expect("it runs").role != "leader" {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(handle.transfer(NodeId(9)).await, Err(TransferError::NotVoter));
    assert_eq!(handle.transfer(NodeId(1)).await, Ok(NodeId(1)), "it leads already");

    let to_nobody = handle.clone();
    let asked = tokio::spawn(async move { to_nobody.transfer(NodeId(3)).await });
    while !journal.mentions("Transfer { id: RequestId(4)") {
        tokio::task::yield_now().await;
    }
    let refused = handle.propose(open_session(1), soon()).await;
    assert_eq!(refused, Decision::Refused(Denial::Transferring(NodeId(3))));
    assert_eq!(handle.transfer(NodeId(2)).await, Err(TransferError::UnderWay(NodeId(3))));
    // The quorum is there when the election timeout comes; the target is not.
    says(2, 1, Body::AppendAccepted { matched: Index(1) });
    assert_eq!(asked.await.expect("it ends"), Err(TransferError::GivenUp));

    says(2, 1, Body::AppendAccepted { matched: Index(1) });
    let to_two = handle.clone();
    let asked = tokio::spawn(async move { to_two.transfer(NodeId(2)).await });
    while !journal.mentions("body: TimeoutNow") {
        tokio::task::yield_now().await;
    }
    says(2, 2, Body::Vote { last: Position { index: Index(1), term: Term(1) }, transfer: true });
    while handle.status().await.expect("it runs").role != "follower" {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(!asked.is_finished(), "nobody is known to lead");
    says(2, 2, Body::Heartbeat { commit: Index(1), round: 0 });
    assert_eq!(asked.await.expect("it ends"), Ok(NodeId(2)));
    running.abort();
}

/// What does not fit is refused at once: the inbox is full, and so are the reads that wait for the state.
#[tokio::test]
async fn a_full_node_says_so_and_keeps_no_more() {
    let options = Options { inbox_capacity: 3, ..Options::default() };
    let replica = replica(1, options, Arc::default(), Arc::default()).await;
    let handle = replica.handle();
    // Nobody runs it, so nothing is taken out.
    let asked: Vec<_> = (0..3).map(|client| begin_to_propose(&handle, client)).collect();
    assert!(asked.iter().all(Option::is_none), "three wait");
    for full in [
        handle.propose(open_session(9), soon()).await,
        handle.propose(open_session(10), Moment(Duration::ZERO)).await,
    ] {
        assert_eq!(full, Decision::Refused(Denial::Overloaded));
    }
    let query = KvQuery::Status;
    assert_eq!(handle.query(query, false, soon()).await, Decision::Refused(Denial::Overloaded));
    assert_eq!(handle.transfer(NodeId(1)).await, Err(TransferError::Overloaded));
}

/// Puts a proposal into the inbox, as far as it goes without the driver.
fn begin_to_propose(
    handle: &crate::replica::Handle<KvMachine>,
    client: u64,
) -> Option<Decision<crate::session::Reply>> {
    use std::future::Future as _;
    let mut proposing = Box::pin(handle.propose(open_session(client), soon()));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match proposing.as_mut().poll(&mut context) {
        std::task::Poll::Ready(decision) => Some(decision),
        std::task::Poll::Pending => None,
    }
}

/// Reads that are confirmed and wait for the state are bounded too. Here the overlay is full, so nothing is applied.
#[tokio::test]
async fn reads_that_wait_for_the_state_are_bounded() {
    let options = Options {
        heartbeat_ms: 5,
        election_timeout_ms: (10, 20),
        apply_overlay_bytes_max: 0,
        reads_max: 2,
        ..Options::default()
    };
    let replica = replica(1, options, Arc::default(), Arc::default()).await;
    let handle = replica.handle();
    let running = tokio::spawn(replica.run(std::future::pending()));
    while handle.status().await.is_some_and(|status| status.role != "leader") {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (told, mut answers) = mpsc::unbounded_channel();
    for _ in 0..3 {
        let (handle, told) = (handle.clone(), told.clone());
        tokio::spawn(async move { told.send(handle.query(KvQuery::Status, false, soon()).await) });
    }
    assert_eq!(answers.recv().await, Some(Decision::Refused(Denial::Overloaded)), "one too many");
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(answers.try_recv().is_err(), "the others wait");
    running.abort();
}
