//! Golden scripts: the protocol as stories that a reviewer can read. Each file in `scripts/` drives a small cluster
//! of cores by hand, command by command, and holds what happened; a change of behaviour is a diff of a script.
//!
//! After an intended change: `UPDATE_GOLDENFILES=1 cargo test -p eraft golden`, then read the diff.

mod cluster;
mod packet;
mod text;

use std::error::Error;

use cluster::{Cluster, Shape};
use packet::Pick;

use crate::mutants::Mutants;

/// The vocabulary. Nodes are numbers; everything prints what came of it.
#[derive(Debug, goldenscript::Command)]
enum Command {
    /// Starts fresh nodes: `cluster nodes=3`. The last `learners` of them have no vote. In the middle of a change of
    /// members: `cluster nodes=4 outgoing="1 2 3" voters="2 3 4"`.
    Cluster {
        #[arg(key)]
        nodes: u64,
        #[arg(key, optional)]
        learners: u64,
        #[arg(key, optional)]
        voters: String,
        #[arg(key, optional)]
        outgoing: String,
        #[arg(key)]
        uncommitted_bytes_max: Option<usize>,
        #[arg(key)]
        uncommitted_entries_max: Option<u64>,
        #[arg(key)]
        reads_max: Option<usize>,
        #[arg(key)]
        window_bytes_max: Option<usize>,
        #[arg(key)]
        entries_max: Option<usize>,
        #[arg(key)]
        appends_max: Option<usize>,
    },
    /// Starts one node from a disk with this log, given by its terms: `disk 1 term=6 log="1 1 4"`.
    Disk {
        node: u64,
        #[arg(key)]
        term: u64,
        #[arg(key)]
        vote: Option<u64>,
        #[arg(key, optional)]
        log: String,
    },
    /// The election timer fires.
    Timeout(u64),
    /// The heartbeat timer fires.
    Heartbeat(u64),
    /// Clients propose.
    Propose { node: u64, commands: Vec<String> },
    /// A client reads.
    Read { node: u64, id: u64 },
    /// An operator wants another node to lead.
    Transfer {
        node: u64,
        #[arg(key)]
        to: u64,
    },
    /// Writes complete: of one node or of all, all or the first few.
    Persist {
        node: Option<u64>,
        #[arg(key)]
        count: Option<usize>,
    },
    /// Messages under way arrive, without the first `skip` and at most `count` of them; those that come of it wait
    /// for the next command.
    Deliver {
        #[arg(key)]
        from: Option<u64>,
        #[arg(key)]
        to: Option<u64>,
        #[arg(key, optional)]
        skip: usize,
        #[arg(key)]
        count: Option<usize>,
    },
    /// As `deliver`, but the originals stay under way.
    Duplicate {
        #[arg(key)]
        from: Option<u64>,
        #[arg(key)]
        to: Option<u64>,
        #[arg(key, optional)]
        skip: usize,
        #[arg(key)]
        count: Option<usize>,
    },
    /// Messages under way are lost.
    Lose {
        #[arg(key)]
        from: Option<u64>,
        #[arg(key)]
        to: Option<u64>,
        #[arg(key, optional)]
        skip: usize,
        #[arg(key)]
        count: Option<usize>,
    },
    /// Delivers and persists until nothing is under way.
    Settle,
    /// What is under way.
    Network,
    /// Cuts these nodes off from the others.
    Partition(Vec<u64>),
    /// Ends the partition.
    Heal,
    /// Power is lost; the first `keep` writes under way were completed.
    Crash {
        node: u64,
        #[arg(key, optional)]
        keep: usize,
    },
    /// Starts a crashed node from its disk.
    Restart(u64),
    /// The state of a crashed node is damaged and wiped.
    Wipe(u64),
    /// The applied state becomes durable.
    Flush(u64),
    /// Entries up to this index are dropped.
    Compact { node: u64, through: u64 },
    /// One line for each node.
    Status,
    /// A node's log.
    Log(u64),
}

#[derive(Default)]
struct Runner {
    cluster: Cluster,
    mutants: Mutants,
}

impl goldenscript::Runner for Runner {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &goldenscript::Context) -> Result<String, Box<dyn Error>> {
        let cluster = &mut self.cluster;
        match *command {
            Command::Cluster {
                nodes,
                learners,
                ref voters,
                ref outgoing,
                uncommitted_bytes_max,
                uncommitted_entries_max,
                reads_max,
                window_bytes_max,
                entries_max,
                appends_max,
            } => {
                let shape = Shape {
                    nodes,
                    entries_max,
                    appends_max,
                    window_bytes_max,
                    uncommitted_bytes_max,
                    uncommitted_entries_max,
                    reads_max,
                    mutants: self.mutants,
                };
                *cluster = Cluster::new(shape, cluster::membership(nodes, learners, voters, outgoing)?);
            }
            Command::Disk { node, term, vote, ref log } => cluster.disk(node, term, vote, log)?,
            Command::Timeout(node) => cluster.election_timeout(node)?,
            Command::Heartbeat(node) => cluster.heartbeat_timeout(node)?,
            Command::Propose { node, ref commands } => cluster.propose(node, commands)?,
            Command::Read { node, id } => cluster.read(node, id)?,
            Command::Transfer { node, to } => cluster.transfer(node, to)?,
            Command::Persist { node, count } => cluster.persist(node, count)?,
            Command::Deliver { from, to, skip, count } => {
                cluster.deliver(Pick { from, to, skip, count }, false)?
            }
            Command::Duplicate { from, to, skip, count } => {
                cluster.deliver(Pick { from, to, skip, count }, true)?
            }
            Command::Lose { from, to, skip, count } => cluster.lose(Pick { from, to, skip, count }),
            Command::Settle => cluster.settle()?,
            Command::Network => cluster.network(),
            Command::Partition(ref nodes) => cluster.partition(nodes),
            Command::Heal => cluster.heal(),
            Command::Crash { node, keep } => cluster.crash(node, keep)?,
            Command::Restart(node) => cluster.restart(node)?,
            Command::Wipe(node) => cluster.wipe(node)?,
            Command::Flush(node) => cluster.flush(node)?,
            Command::Compact { node, through } => cluster.compact(node, through)?,
            Command::Status => cluster.status(),
            Command::Log(node) => cluster.log(node)?,
        }
        Ok(cluster.story())
    }
}

macro_rules! scripts {
    ($($name:ident)*) => {
        const NAMES: &[&str] = &[$(stringify!($name)),*];

        mod golden {
            $(
                #[test]
                fn $name() -> std::io::Result<()> {
                    super::run(stringify!($name))
                }
            )*
        }
    };
}

scripts! {
    election_basics
    election_vote_once
    election_up_to_date
    election_stale_term
    election_stale_vote
    election_split_vote
    election_prevote_partition
    election_vote_ignored
    election_check_quorum
    election_stuck_high_term
    persist_vote_before_reply
    persist_ack_before_reply
    persist_leader_counts_itself_last
    persist_single_node
    replication_basics
    replication_conflict_hints
    replication_figure_7
    replication_figure_8
    replication_delayed_duplicate
    replication_window
    replication_window_bytes
    replication_slow_follower
    replication_lost_append
    snapshot_install
    snapshot_stale_refused
    snapshot_tail_kept
    snapshot_tail_dropped
    snapshot_crash_before_reset
    read_waits_for_own_term
    read_batches_rounds
    read_refused_at_step_down
    joint_elections
    joint_commit_and_check_quorum
    joint_reads
    proposals_refused
    reads_refused
    snapshot_lost_state
    snapshot_figure_13
    snapshot_race_with_appends
    snapshot_race_two_snapshots
    snapshot_race_deposed_leader
    snapshot_race_crash
    transfer_basics
    transfer_brings_up_to_date
    transfer_refused
    transfer_given_up
    transfer_lost_and_repeated
    transfer_leadership_lost
    transfer_by_snapshot
    transfer_joint
    learner
}

fn directory() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/raft/scripts")
}

fn run(name: &str) -> std::io::Result<()> {
    goldenscript::run(&mut Runner::default(), directory().join(name))
}

#[test]
fn every_script_is_run() -> std::io::Result<()> {
    let mut found: Vec<String> = std::fs::read_dir(directory())?
        .map(|file| file.map(|file| file.file_name().to_string_lossy().into_owned()))
        .collect::<Result<_, _>>()?;
    let mut expected: Vec<&str> = NAMES.to_vec();
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
    Ok(())
}

/// The scripts as an exam: with each planted bug that they can see, some script tells another story.
#[cfg(feature = "mutants")]
mod exam {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;
    use crate::mutants::{CATALOGUE, Layer, Mutant};

    /// The parts of the system that scripts drive.
    const GROUPS: [&str; 3] = ["election", "replication", "snapshot"];

    /// Whether the script `name` ends otherwise with `mutant` than it is written.
    fn tells(name: &str, mutant: &Mutant) -> std::io::Result<bool> {
        let written = std::fs::read_to_string(directory().join(name))?;
        let mut runner = Runner { mutants: Mutants::with(mutant.mutant), ..Runner::default() };
        // An assertion of the core that fails is an ending, too.
        let told = catch_unwind(AssertUnwindSafe(|| goldenscript::generate(&mut runner, &written)));
        Ok(told.is_err() || told.is_ok_and(|told| told.is_err() || told.is_ok_and(|told| told != written)))
    }

    #[test]
    fn every_planted_bug_that_scripts_can_see_changes_one() -> std::io::Result<()> {
        let visible =
            |mutant: &&Mutant| GROUPS.contains(&mutant.group) && mutant.layers.contains(&Layer::Unit);
        let mut unseen = Vec::new();
        for mutant in CATALOGUE.iter().filter(visible) {
            let mut telling = Vec::new();
            for name in NAMES {
                if tells(name, mutant)? {
                    telling.push(*name);
                }
            }
            println!("{}: {}", mutant.id, telling.join(" "));
            if telling.is_empty() {
                unseen.push(mutant.id);
            }
        }
        assert_eq!(unseen, Vec::<&str>::new(), "no script tells of these");
        Ok(())
    }
}
