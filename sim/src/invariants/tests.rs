//! Each invariant is shown something that violates it: a check that cannot fail checks nothing. The nodes are real
//! cores that are lied to, or whose effects are.

use bytes::Bytes;
use eraft::mutants::{MutantId, Mutants};
use eraft::raft::{
    Base, Body, Config, Effect, Entry, HardState, Input, Log, Membership, Message, Payload, Persist,
    Position, Raft, RequestId, Timer, WriteId,
};
use eraft::types::{Index, NodeId, Term};

use super::*;

const ONE: NodeId = NodeId(1);
const TWO: NodeId = NodeId(2);
const THREE: NodeId = NodeId(3);

/// Nodes of a group under one suite.
struct Bench {
    suite: Suite,
    members: Vec<NodeId>,
}

impl Bench {
    fn new(oracle: &str, members: &[NodeId]) -> Self {
        Self { suite: Suite::only(&[oracle]), members: members.to_vec() }
    }

    fn base(&self, index: u64, term: u64) -> Base {
        let position = Position { index: Index(index), term: Term(term) };
        Base { position, membership: Membership::of(self.members.clone()) }
    }

    fn open(&mut self, node: NodeId, hard: HardState, entries: Vec<Entry>) -> Result<Raft, Violation> {
        let log = Log::restore(self.base(0, 0), entries).expect("the entries have no holes");
        let raft = Raft::new(Config::new(node), hard, log, Index(0), &mut Vec::new());
        let kind = Kind::Opened { raft: &raft, applied: Position::default(), replica_hash: 0 };
        self.suite.step(node, 0, kind).map(|()| raft)
    }

    fn fresh(&mut self, node: NodeId) -> Raft {
        self.open(node, HardState::default(), Vec::new()).expect("a fresh node violates nothing")
    }

    /// Steps and shows the suite what `lie` makes of the effects.
    fn step(
        &mut self,
        raft: &mut Raft,
        input: Input,
        lie: impl Fn(&mut Vec<Effect>),
    ) -> Result<(), Violation> {
        let mut effects = Vec::new();
        raft.step(input.clone(), &mut effects);
        lie(&mut effects);
        self.suite.step(raft.id(), 1, Kind::Stepped { input: &input, effects: &effects, raft })
    }

    /// A group of one that leads term 1 and has committed its no-op.
    fn single_leader(&mut self) -> Raft {
        let mut raft = self.fresh(ONE);
        for input in
            [Input::Timeout(Timer::Election), Input::Persisted(WriteId(1)), Input::Persisted(WriteId(2))]
        {
            self.step(&mut raft, input, |_| {}).expect("an election violates nothing");
        }
        assert!(raft.is_leader() && raft.commit() == Index(1));
        raft
    }
}

fn entry(index: u64, term: u64, text: &'static str) -> Entry {
    let payload = Payload::Command(Bytes::from_static(text.as_bytes()));
    Entry { index: Index(index), term: Term(term), payload }
}

fn from(from: NodeId, term: u64, body: Body) -> Input {
    Input::Message { from, message: Message { term: Term(term), body } }
}

fn append(entries: Vec<Entry>, commit: u64) -> Body {
    Body::Append { previous: Position::default(), entries, commit: Index(commit) }
}

fn fingerprint<T: std::fmt::Debug>(result: Result<T, Violation>) -> String {
    result.expect_err("a violation").fingerprint
}

#[test]
fn two_leaders_in_one_term() {
    let mut bench = Bench::new("raft.election_safety", &[ONE]);
    bench.single_leader();
    bench.members = vec![TWO];
    let mut raft = bench.fresh(TWO);
    bench.step(&mut raft, Input::Timeout(Timer::Election), |_| {}).expect("a candidate violates nothing");
    let result = bench.step(&mut raft, Input::Persisted(WriteId(1)), |_| {});
    assert_eq!(fingerprint(result), "raft.election_safety: two leaders in one term");
}

#[test]
fn a_leader_that_truncates() {
    let mut bench = Bench::new("raft.leader_append_only", &[ONE]);
    let mut raft = bench.single_leader();
    let result = bench.step(&mut raft, Input::Propose(vec![(RequestId(1), Bytes::new())]), |effects| {
        for effect in effects {
            if let Effect::Persist(persist) = effect {
                persist.truncate = Some(Index(1));
            }
        }
    });
    assert_eq!(fingerprint(result), "raft.leader_append_only: a leader truncated its log");
}

#[test]
fn a_log_that_changes_without_a_write() {
    let mut bench = Bench::new("raft.log_matching", &[ONE]);
    let mut raft = bench.single_leader();
    let result = bench.step(&mut raft, Input::Propose(vec![(RequestId(1), Bytes::new())]), Vec::clear);
    assert_eq!(fingerprint(result), "raft.log_matching: a log changed without a write");
}

#[test]
fn the_same_position_after_different_logs() {
    let mut bench = Bench::new("raft.log_matching", &[ONE, TWO, THREE]);
    let (mut one, mut two) = (bench.fresh(ONE), bench.fresh(TWO));
    let first = append(vec![entry(1, 1, "a"), entry(2, 2, "b")], 0);
    let second = append(vec![entry(1, 2, "c"), entry(2, 2, "b")], 0);
    bench.step(&mut one, from(THREE, 2, first), |_| {}).expect("the first log violates nothing");
    let result = bench.step(&mut two, from(THREE, 2, second), |_| {});
    assert_eq!(fingerprint(result), "raft.log_matching: two logs share a position and differ before it");
}

#[test]
fn a_leader_without_a_committed_entry() {
    let mut bench = Bench::new("raft.leader_completeness", &[ONE, TWO]);
    let mut one = bench.fresh(ONE);
    let body = append(vec![entry(1, 1, "a")], 1);
    bench.step(&mut one, from(TWO, 1, body), |_| {}).expect("a follower violates nothing");
    bench.members = vec![THREE];
    let hard = HardState { term: Term(1), vote: None };
    let mut three = bench.open(THREE, hard, Vec::new()).expect("a fresh node violates nothing");
    bench.step(&mut three, Input::Timeout(Timer::Election), |_| {}).expect("a candidate violates nothing");
    let result = bench.step(&mut three, Input::Persisted(WriteId(1)), |_| {});
    assert_eq!(fingerprint(result), "raft.leader_completeness: a leader lacks a committed entry");
}

#[test]
fn different_entries_committed_and_applied() {
    const ID: &str = "raft.state_machine_safety";
    let mut bench = Bench::new(ID, &[ONE, TWO, THREE]);
    let (mut one, mut two) = (bench.fresh(ONE), bench.fresh(TWO));
    bench
        .step(&mut one, from(THREE, 1, append(vec![entry(1, 1, "a")], 1)), |_| {})
        .expect("the first commit");
    let applied = |entry: &Entry, bench: &mut Bench, hash| {
        bench.suite.step(ONE, 2, Kind::Applied { entry, replica_hash: hash })
    };
    let result = applied(&entry(2, 1, "b"), &mut bench, 7);
    assert_eq!(fingerprint(result), format!("{ID}: entries applied out of order"));
    let result = applied(&entry(1, 1, "b"), &mut bench, 7);
    assert_eq!(fingerprint(result), format!("{ID}: two nodes applied different entries"));
    let result = bench.step(&mut two, from(THREE, 1, append(vec![entry(1, 1, "b")], 1)), |_| {});
    assert_eq!(fingerprint(result), format!("{ID}: two nodes committed different entries"));
}

#[test]
fn the_same_entries_with_different_states() {
    let mut bench = Bench::new("raft.state_machine_safety", &[ONE, TWO, THREE]);
    for (node, hash) in [(ONE, 7), (TWO, 8)] {
        let mut raft = bench.fresh(node);
        let body = append(vec![entry(1, 1, "a")], 1);
        bench.step(&mut raft, from(THREE, 1, body), |_| {}).expect("a commit violates nothing");
        let kind = Kind::Applied { entry: &entry(1, 1, "a"), replica_hash: hash };
        let result = bench.suite.step(node, 2, kind);
        if node == TWO {
            assert_eq!(fingerprint(result), "raft.state_machine_safety: two states at one index differ");
        }
    }
}

#[test]
fn a_vote_that_is_not_durable_and_a_vote_that_is_lost() {
    let ask = || from(TWO, 1, Body::Vote { last: Position::default(), transfer: false });
    let mut bench = Bench::new("raft.vote_once", &[ONE, TWO, THREE]);
    let mut raft = bench.fresh(ONE);
    let result = bench.step(&mut raft, ask(), |effects| {
        for effect in effects {
            if let Effect::Send { after, .. } = effect {
                *after = None;
            }
        }
    });
    assert_eq!(fingerprint(result), "raft.vote_once: a vote left before it was durable");

    let mut bench = Bench::new("raft.vote_once", &[ONE, TWO, THREE]);
    let mut raft = bench.fresh(ONE);
    bench.step(&mut raft, ask(), |_| {}).expect("a vote violates nothing");
    bench.step(&mut raft, Input::Persisted(WriteId(2)), |_| {}).expect("nor does its write");
    let result = bench.open(ONE, HardState { term: Term(1), vote: None }, Vec::new());
    assert_eq!(fingerprint(result), "raft.vote_once: a durable vote or term was lost");
}

#[test]
fn a_term_and_a_state_that_go_back() {
    let mut bench = Bench::new("raft.monotonic", &[ONE]);
    bench.single_leader();
    let result = bench.open(ONE, HardState::default(), Vec::new());
    assert_eq!(fingerprint(result), "raft.monotonic: the term went back over a restart");

    let mut bench = Bench::new("raft.monotonic", &[ONE]);
    bench.single_leader();
    let applied = Position { index: Index(1), term: Term(1) };
    bench.suite.step(ONE, 2, Kind::Flushed { applied }).expect("a flush violates nothing");
    let noop = Entry { index: Index(1), term: Term(1), payload: Payload::Noop };
    let result = bench.open(ONE, HardState { term: Term(1), vote: Some(ONE) }, vec![noop]);
    assert_eq!(fingerprint(result), "raft.monotonic: the state went back over a restart");
}

#[test]
fn an_acknowledgement_without_its_write_and_a_lost_entry() {
    const ID: &str = "raft.ack_durable";
    let body = || append(vec![entry(1, 1, "a")], 0);
    let mut bench = Bench::new(ID, &[ONE, TWO, THREE]);
    let mut raft = bench.fresh(ONE);
    let result = bench.step(&mut raft, from(TWO, 1, body()), |effects| {
        for effect in effects {
            if let Effect::Send { after, .. } = effect {
                *after = Some(WriteId(1)); // the write of the term; that of the entry is the second
            }
        }
    });
    assert_eq!(fingerprint(result), format!("{ID}: an acknowledgement left before its write"));

    let mut bench = Bench::new(ID, &[ONE, TWO, THREE]);
    let mut raft = bench.fresh(ONE);
    bench.step(&mut raft, from(TWO, 1, body()), |_| {}).expect("an append violates nothing");
    bench.step(&mut raft, Input::Persisted(WriteId(2)), |_| {}).expect("nor does its write");
    let result = bench.open(ONE, HardState { term: Term(1), vote: None }, Vec::new());
    assert_eq!(fingerprint(result), format!("{ID}: a durable entry was lost"));
}

#[test]
fn a_state_that_runs_ahead_of_the_log() {
    let mut bench = Bench::new("raft.ack_durable", &[ONE, TWO, THREE]);
    let mut raft = bench.fresh(ONE);
    let body = append(vec![entry(1, 1, "a")], 1);
    bench.step(&mut raft, from(TWO, 1, body), |_| {}).expect("an append violates nothing");
    // Both writes are said to be durable; the disk has only completed the first.
    let mut effects = Vec::new();
    raft.step(Input::Persisted(WriteId(2)), &mut effects);
    let input = Input::Persisted(WriteId(1));
    let result = bench.suite.step(ONE, 1, Kind::Stepped { input: &input, effects: &effects, raft: &raft });
    assert_eq!(fingerprint(result), "raft.ack_durable: the state ran ahead of the log");
}

#[test]
fn a_write_under_way_may_be_lost_or_kept() {
    for kept in [true, false] {
        let mut bench = Bench::new("raft.ack_durable", &[ONE, TWO, THREE]);
        let mut raft = bench.fresh(ONE);
        let body = append(vec![entry(1, 1, "a")], 0);
        bench.step(&mut raft, from(TWO, 1, body), |_| {}).expect("an append violates nothing");
        let entries = if kept { vec![entry(1, 1, "a")] } else { Vec::new() };
        bench.open(ONE, HardState { term: Term(1), vote: None }, entries).expect("a crash may do either");
    }
}

#[test]
fn a_crash_may_come_before_the_snapshot_is_installed_and_not_after() {
    for installed in [false, true] {
        let mut bench = Bench::new("raft.monotonic", &[ONE, TWO, THREE]);
        let mut raft = bench.fresh(ONE);
        let base = bench.base(5, 1);
        let applied = base.position;
        let input = Input::SnapshotReceived { from: TWO, term: Term(1), base };
        bench.step(&mut raft, input, |_| {}).expect("a snapshot violates nothing");
        if installed {
            let kind = Kind::SnapshotInstalled { applied, replica_hash: 7 };
            bench.suite.step(ONE, 2, kind).expect("nor does its installation");
        }
        let result = bench.open(ONE, HardState::default(), Vec::new()).map(|_| ());
        assert_eq!(result.is_err(), installed, "{result:?}");
    }
}

#[test]
fn a_term_that_nobody_agreed_to() {
    let mut bench = Bench::new("raft.pre_vote", &[ONE, TWO, THREE]);
    let mut raft = with_mutant(bench.fresh(ONE), MutantId::ElectionNoPreVote);
    let result = bench.step(&mut raft, Input::Timeout(Timer::Election), |_| {});
    assert_eq!(fingerprint(result), "raft.pre_vote: a term was raised without the consent of a quorum");

    // One of three agrees: with the node itself that is a quorum.
    let mut bench = Bench::new("raft.pre_vote", &[ONE, TWO, THREE]);
    let mut raft = bench.fresh(ONE);
    for input in [Input::Timeout(Timer::Election), from(TWO, 1, Body::PreVoteReply { granted: true })] {
        bench.step(&mut raft, input, |_| {}).expect("a quorum agreed");
    }
    assert_eq!(raft.hard().term, Term(1));
}

#[test]
fn a_leader_that_nobody_answers() {
    for (mutant, stays) in [(MutantId::ElectionNoCheckQuorum, true), (MutantId::KvNoDedup, false)] {
        let mut bench = Bench::new("raft.check_quorum", &[ONE, TWO, THREE]);
        let mut raft = with_mutant(bench.fresh(ONE), mutant);
        for input in [
            Input::Timeout(Timer::Election),
            from(TWO, 1, Body::PreVoteReply { granted: true }),
            Input::Persisted(WriteId(1)),
            from(TWO, 1, Body::VoteReply { granted: true }),
            Input::Timeout(Timer::Election),
        ] {
            bench.step(&mut raft, input, |_| {}).expect("a new leader has an election timeout of grace");
        }
        assert!(raft.is_leader());
        let result = bench.step(&mut raft, Input::Timeout(Timer::Election), |_| {});
        if stays {
            let expected = "raft.check_quorum: a leader without a quorum leads on";
            assert_eq!(fingerprint(result), expected);
        } else {
            assert!(result.is_ok() && !raft.is_leader());
        }
    }
}

/// A leader of two, which has asked for leadership to go to the other.
fn transferring(bench: &mut Bench, mutant: MutantId) -> Raft {
    let mut raft = with_mutant(bench.fresh(ONE), mutant);
    for input in [
        Input::Timeout(Timer::Election),
        from(TWO, 1, Body::PreVoteReply { granted: true }),
        Input::Persisted(WriteId(1)),
        from(TWO, 1, Body::VoteReply { granted: true }),
    ] {
        bench.step(&mut raft, input, |_| {}).expect("an election violates nothing");
    }
    raft
}

#[test]
fn a_transfer_to_a_member_that_lacks_entries_and_a_proposal_meanwhile() {
    let wants_two = || Input::Transfer { id: RequestId(1), to: TWO };
    let mut bench = Bench::new("raft.transfer", &[ONE, TWO]);
    let mut raft = transferring(&mut bench, MutantId::ElectionTransferToLagging);
    let result = bench.step(&mut raft, wants_two(), |_| {});
    assert_eq!(fingerprint(result), "raft.transfer: a member was told to lead that lacks entries");

    let mut bench = Bench::new("raft.transfer", &[ONE, TWO]);
    let mut raft = transferring(&mut bench, MutantId::ElectionProposalsDuringTransfer);
    bench.step(&mut raft, wants_two(), |_| {}).expect("it waits for the member");
    let proposal = Input::Propose(vec![(RequestId(2), bytes::Bytes::from_static(b"a"))]);
    let result = bench.step(&mut raft, proposal, |_| {});
    assert_eq!(fingerprint(result), "raft.transfer: a proposal was taken during a transfer");
}

#[test]
fn a_member_is_told_to_lead_and_does_so_without_asking_first() {
    for (told_in, is_wanted) in [(1, true), (0, false)] {
        let mut bench = Bench::new("raft.pre_vote", &[ONE, TWO, THREE]);
        let mut raft = with_mutant(bench.fresh(ONE), MutantId::ElectionStaleTimeoutNow);
        bench
            .step(&mut raft, from(TWO, 1, Body::Heartbeat { commit: Index(0), round: 0 }), |_| {})
            .expect("a heartbeat violates nothing");
        let result = bench.step(&mut raft, from(TWO, told_in, Body::TimeoutNow), |_| {});
        assert_eq!(raft.hard().term, Term(2));
        assert_eq!(result.is_ok(), is_wanted, "{result:?}");
    }
}

#[test]
fn a_stale_read() {
    let mut bench = Bench::new("raft.read_index", &[ONE]);
    let mut raft = bench.single_leader();
    let result = bench.step(&mut raft, Input::Read(RequestId(1)), |effects| {
        for effect in effects {
            if let Effect::ReadReady { index, .. } = effect {
                *index = Index(0);
            }
        }
    });
    assert_eq!(fingerprint(result), "raft.read_index: a stale read");
}

#[test]
fn a_snapshot_of_what_is_not_committed() {
    let mut bench = Bench::new("raft.snapshot", &[ONE, TWO, THREE]);
    let mut raft = bench.fresh(ONE);
    let input = Input::SnapshotReceived { from: TWO, term: Term(1), base: bench.base(5, 1) };
    let result = bench.step(&mut raft, input, |_| {});
    assert_eq!(fingerprint(result), "raft.snapshot: a position that is not committed");
}

#[test]
fn an_entry_of_an_earlier_term_committed_by_counting() {
    let mut bench = Bench::new("raft.commit_current_term", &[ONE]);
    let hard = HardState { term: Term(1), vote: None };
    let mut raft = bench.open(ONE, hard, vec![entry(1, 1, "a")]).expect("a follower violates nothing");
    raft = with_mutant(raft, MutantId::ReplicationCommitOldTerm);
    bench.step(&mut raft, Input::Timeout(Timer::Election), |_| {}).expect("a candidate violates nothing");
    // It is elected and counts in the same step; its no-op is not durable yet.
    let result = bench.step(&mut raft, Input::Persisted(WriteId(1)), |_| {});
    let expected = "raft.commit_current_term: an entry of an earlier term was committed by counting";
    assert_eq!(fingerprint(result), expected);
}

/// The same node with a planted bug.
fn with_mutant(raft: Raft, mutant: MutantId) -> Raft {
    let mutants = Mutants::with(mutant);
    let config = Config { mutants, ..raft.config().clone() };
    Raft::new(config, raft.hard(), raft.log().clone(), Index(0), &mut Vec::new())
}

#[test]
fn hashes_tell_entries_apart() {
    let hashes: std::collections::BTreeSet<u64> = [
        entry(1, 1, "a"),
        entry(2, 1, "a"),
        entry(1, 2, "a"),
        entry(1, 1, "b"),
        entry(1, 1, ""),
        Entry { payload: Payload::Noop, ..entry(1, 1, "") },
        Entry { payload: Payload::Membership(Membership::default()), ..entry(1, 1, "") },
        Entry { payload: Payload::Membership(Membership::of([ONE])), ..entry(1, 1, "") },
    ]
    .iter()
    .map(chain::hash_entry)
    .collect();
    assert_eq!(hashes.len(), 8);
}

#[test]
fn a_chain_does_what_its_writes_say() {
    let mut log = chain::Chain::default();
    let persist = |base: Option<u64>, truncate: Option<u64>, append: Vec<Entry>| Persist {
        id: WriteId(1),
        hard: HardState::default(),
        base: base.map(|index| Base {
            position: Position { index: Index(index), term: Term(1) },
            membership: Membership::default(),
        }),
        truncate: truncate.map(Index),
        append,
    };
    let entries = vec![entry(1, 1, "a"), entry(2, 1, "b"), entry(3, 1, "c")];
    log.persist(&persist(None, None, entries), |_| 0);
    let at_two = log.prefix_at(Index(2));
    log.persist(&persist(Some(2), Some(3), vec![entry(3, 2, "d")]), |_| 0);
    assert_eq!(log.prefix_at(Index(2)), at_two, "the base keeps the prefix of what it replaces");
    assert_eq!(log.last(), Position { index: Index(3), term: Term(2) });
    assert_eq!((log.term_at(Index(1)), log.term_at(Index(4))), (None, None));
    log.persist(&persist(Some(9), None, Vec::new()), |_| 42);
    assert_eq!((log.last().index, log.prefix_at(Index(9))), (Index(9), Some(42)));
}
