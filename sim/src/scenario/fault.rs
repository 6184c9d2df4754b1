//! The faults: their ids, and what each needs to know.
//!
//! Ids are stable: scenarios, reports and artifacts use them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum FaultKind {
    NetLoss,
    NetDelay,
    NetReorder,
    NetDuplicate,
    NetPartition,
    NetSlow,
    NetReset,
    NodeKill,
    NodeRestart,
    NodeCrash,
    NodeCrashAll,
    NodePause,
    DiskTorn,
    DiskSlow,
    DiskStall,
    DiskFull,
    DiskIoError,
    ClockSkew,
    ClockJump,
    ClientCrash,
    ClientPause,
    DiskBitrot,
    OpsTransfer,
    OpsJoin,
    OpsLeave,
    OpsMove,
    OpsUnpin,
    OpsRollback,
}

impl FaultKind {
    /// Every kind, in the order of reports.
    pub const ALL: [FaultKind; 28] = [
        FaultKind::NetLoss,
        FaultKind::NetDelay,
        FaultKind::NetReorder,
        FaultKind::NetDuplicate,
        FaultKind::NetPartition,
        FaultKind::NetSlow,
        FaultKind::NetReset,
        FaultKind::NodeKill,
        FaultKind::NodeRestart,
        FaultKind::NodeCrash,
        FaultKind::NodeCrashAll,
        FaultKind::NodePause,
        FaultKind::DiskTorn,
        FaultKind::DiskSlow,
        FaultKind::DiskStall,
        FaultKind::DiskFull,
        FaultKind::DiskIoError,
        FaultKind::ClockSkew,
        FaultKind::ClockJump,
        FaultKind::ClientCrash,
        FaultKind::ClientPause,
        FaultKind::DiskBitrot,
        FaultKind::OpsTransfer,
        FaultKind::OpsJoin,
        FaultKind::OpsLeave,
        FaultKind::OpsMove,
        FaultKind::OpsUnpin,
        FaultKind::OpsRollback,
    ];

    /// Its stable id.
    pub fn id(self) -> &'static str {
        match self {
            FaultKind::NetLoss => "net.loss",
            FaultKind::NetDelay => "net.delay",
            FaultKind::NetReorder => "net.reorder",
            FaultKind::NetDuplicate => "net.duplicate",
            FaultKind::NetPartition => "net.partition",
            FaultKind::NetSlow => "net.slow",
            FaultKind::NetReset => "net.reset",
            FaultKind::NodeKill => "node.kill",
            FaultKind::NodeRestart => "node.restart",
            FaultKind::NodeCrash => "node.crash",
            FaultKind::NodeCrashAll => "node.crash_all",
            FaultKind::NodePause => "node.pause",
            FaultKind::DiskTorn => "disk.torn",
            FaultKind::DiskSlow => "disk.slow",
            FaultKind::DiskStall => "disk.stall",
            FaultKind::DiskFull => "disk.full",
            FaultKind::DiskIoError => "disk.io_error",
            FaultKind::ClockSkew => "clock.skew",
            FaultKind::ClockJump => "clock.jump",
            FaultKind::ClientCrash => "client.crash",
            FaultKind::ClientPause => "client.pause",
            FaultKind::DiskBitrot => "disk.bitrot",
            FaultKind::OpsTransfer => "ops.transfer",
            FaultKind::OpsJoin => "ops.join",
            FaultKind::OpsLeave => "ops.leave",
            FaultKind::OpsMove => "ops.move",
            FaultKind::OpsUnpin => "ops.unpin",
            FaultKind::OpsRollback => "ops.rollback",
        }
    }

    /// What it does, for `list`.
    pub fn about(self) -> &'static str {
        match self {
            FaultKind::NetLoss => "messages of the target's links are lost",
            FaultKind::NetDelay => "messages of the target's links take longer",
            FaultKind::NetReorder => "messages of the target's links overtake each other",
            FaultKind::NetDuplicate => "messages of the target's links arrive twice",
            FaultKind::NetPartition => "links are cut, in one direction or both",
            FaultKind::NetSlow => "the target's links carry few bytes a second",
            FaultKind::NetReset => "the target's open streams break",
            FaultKind::NodeKill => "the process dies; completed writes stay",
            FaultKind::NodeRestart => "a node that is down comes back",
            FaultKind::NodeCrash => "power loss: the write in flight is lost, and peers hear nothing",
            FaultKind::NodeCrashAll => "power loss on all nodes at once",
            FaultKind::NodePause => "the process stands still and goes on",
            FaultKind::DiskTorn => "power loss in the middle of a write: a part of it is on the disk",
            FaultKind::DiskSlow => "each write takes longer",
            FaultKind::DiskStall => "no write completes for a while",
            FaultKind::DiskFull => "writes fail: no space left",
            FaultKind::DiskIoError => "a write fails",
            FaultKind::ClockSkew => "the node's clock runs too fast or too slow",
            FaultKind::ClockJump => "the node's clock jumps forward",
            FaultKind::ClientCrash => "the client's process dies; what it had asked for stays unknown",
            FaultKind::ClientPause => "the client stands still and goes on",
            FaultKind::DiskBitrot => {
                "a bit of the log or of the state turns, on a minority of the disks at most"
            }
            FaultKind::OpsTransfer => "an operator wants the target to lead; counts once it does",
            FaultKind::OpsJoin => "a group joins the sharded store",
            FaultKind::OpsLeave => "a group leaves the sharded store",
            FaultKind::OpsMove => "a shard is moved to another group, and pinned there",
            FaultKind::OpsUnpin => "the pin of a shard ends",
            FaultKind::OpsRollback => "the placement is that of an earlier config again",
        }
    }

    /// The kind with this id.
    pub fn by_id(id: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.id() == id)
    }

    /// True if it is an operator's change: it names a group (`all of g101`) or leaves the choice, and hits no node.
    pub fn is_operation(self) -> bool {
        matches!(
            self,
            FaultKind::OpsJoin
                | FaultKind::OpsLeave
                | FaultKind::OpsMove
                | FaultKind::OpsUnpin
                | FaultKind::OpsRollback
        )
    }

    /// Which parameters say something about this kind, besides `target`.
    pub fn parameters(self) -> &'static [&'static str] {
        match self {
            FaultKind::NetLoss | FaultKind::NetDuplicate => &["duration_ms", "rate", "direction"],
            FaultKind::NetReorder => &["duration_ms", "rate", "delay_ms", "direction"],
            FaultKind::NetDelay => &["duration_ms", "delay_ms", "direction"],
            FaultKind::DiskSlow => &["duration_ms", "factor"],
            FaultKind::NetPartition => &["duration_ms", "shape", "clients"],
            FaultKind::NetSlow => &["duration_ms", "bytes_per_second", "direction"],
            FaultKind::NetReset
            | FaultKind::NodeRestart
            | FaultKind::OpsTransfer
            | FaultKind::OpsJoin
            | FaultKind::OpsLeave
            | FaultKind::OpsMove
            | FaultKind::OpsUnpin
            | FaultKind::OpsRollback => &[],
            FaultKind::ClockSkew => &["duration_ms", "speed"],
            FaultKind::ClockJump => &["jump_ms"],
            FaultKind::DiskBitrot => &["store"],
            FaultKind::DiskFull | FaultKind::DiskIoError => &["duration_ms", "store"],
            FaultKind::NodeKill
            | FaultKind::NodeCrash
            | FaultKind::NodeCrashAll
            | FaultKind::NodePause
            | FaultKind::DiskTorn
            | FaultKind::DiskStall
            | FaultKind::ClientCrash
            | FaultKind::ClientPause => &["duration_ms"],
        }
    }

    /// True if the fault may be without an end of its own: what it stopped stays down, what it bent stays so.
    pub fn may_last(self) -> bool {
        matches!(
            self,
            FaultKind::NodeKill
                | FaultKind::NodeCrash
                | FaultKind::NodeCrashAll
                | FaultKind::DiskTorn
                | FaultKind::ClockSkew
        )
    }

    /// What it may hit.
    pub fn hits(self) -> Hits {
        match self.id().split_once('.') {
            Some(("net", _)) => Hits::Parties,
            Some(("client", _)) => Hits::Clients,
            _ => Hits::Nodes,
        }
    }
}

/// What a fault may hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hits {
    /// Nodes alone.
    Nodes,
    /// Clients alone.
    Clients,
    /// Both.
    Parties,
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id())
    }
}

/// How a partition cuts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// The target and the rest hear nothing of each other.
    Symmetric,
    /// The target hears nothing, but is heard.
    Inbound,
    /// The target is not heard, but hears.
    Outbound,
    /// Two halves, and one node (the target) that both see.
    Bridge,
    /// Every node sees a majority, and no two the same one.
    Ring,
}

impl Shape {
    /// The words for them in a scenario.
    pub const WORDS: [(&'static str, Shape); 5] = [
        ("symmetric", Shape::Symmetric),
        ("inbound", Shape::Inbound),
        ("outbound", Shape::Outbound),
        ("bridge", Shape::Bridge),
        ("ring", Shape::Ring),
    ];
}

/// Which of the target's links a fault of the network bends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// What the target sends and what it is sent.
    #[default]
    Both,
    /// What it is sent.
    To,
    /// What it sends.
    From,
}

impl Direction {
    /// The words for them in a scenario.
    pub const WORDS: [(&'static str, Direction); 3] =
        [("both", Direction::Both), ("to", Direction::To), ("from", Direction::From)];

    /// Does it bend a link whose sender the fault hits, or whose receiver?
    pub fn bends(self, hits_sender: bool, hits_receiver: bool) -> bool {
        match self {
            Direction::Both => hits_sender || hits_receiver,
            Direction::To => hits_receiver,
            Direction::From => hits_sender,
        }
    }

    /// For files: true if nothing has to be said.
    #[allow(clippy::trivially_copy_pass_by_ref)] // as serde calls it
    pub fn is_both(&self) -> bool {
        *self == Direction::Both
    }
}

/// Which of a node's stores a fault of its disk meets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stores {
    /// Everything on the disk.
    #[default]
    Both,
    /// The store of the log alone.
    Log,
    /// The store of the state alone, as it is when the fault begins.
    State,
}

impl Stores {
    /// The words for them in a scenario.
    pub const WORDS: [(&'static str, Stores); 3] =
        [("both", Stores::Both), ("log", Stores::Log), ("state", Stores::State)];
}

/// What rots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RotStore {
    /// The store of the log: its replica is gone for good.
    Log,
    /// The store of the state: it is wiped, and a snapshot takes its place.
    State,
}

impl RotStore {
    /// The words for them in a scenario.
    pub const WORDS: [(&'static str, RotStore); 2] = [("log", RotStore::Log), ("state", RotStore::State)];
}

/// Something that happens on a node, after which a fault may be timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// A node voted for another.
    Vote,
    /// A node became leader.
    Election,
    /// A write to the log completed.
    Sync,
    /// A node sent or installed a snapshot.
    Snapshot,
    /// Applied state became durable.
    Flush,
    /// A group adopted a config: shards that it lost are frozen, those that it got are pulled.
    Config,
    /// A shard arrived whole at its new owner.
    Arrival,
    /// An old owner knows that its copy of a shard is not needed any more.
    Release,
    /// An old owner has deleted its copy of a shard.
    Deletion,
}

impl Trigger {
    /// The words for them in a scenario.
    pub const WORDS: [(&'static str, Trigger); 9] = [
        ("vote", Trigger::Vote),
        ("election", Trigger::Election),
        ("sync", Trigger::Sync),
        ("snapshot", Trigger::Snapshot),
        ("flush", Trigger::Flush),
        ("config", Trigger::Config),
        ("arrival", Trigger::Arrival),
        ("release", Trigger::Release),
        ("deletion", Trigger::Deletion),
    ];
}

/// What a fault does, with its numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "action")]
#[allow(missing_docs)]
pub enum Action {
    #[serde(rename = "net.loss")]
    NetLoss { rate: f64 },
    #[serde(rename = "net.delay")]
    NetDelay { delay_ms: u64 },
    #[serde(rename = "net.reorder")]
    NetReorder { rate: f64, delay_ms: u64 },
    #[serde(rename = "net.duplicate")]
    NetDuplicate { rate: f64 },
    #[serde(rename = "net.partition")]
    NetPartition { shape: Shape, clients: bool },
    #[serde(rename = "net.slow")]
    NetSlow { bytes_per_second: u64 },
    #[serde(rename = "net.reset")]
    NetReset,
    #[serde(rename = "node.kill")]
    NodeKill,
    #[serde(rename = "node.restart")]
    NodeRestart,
    #[serde(rename = "node.crash")]
    NodeCrash,
    #[serde(rename = "node.crash_all")]
    NodeCrashAll,
    #[serde(rename = "node.pause")]
    NodePause,
    #[serde(rename = "disk.torn")]
    DiskTorn,
    #[serde(rename = "disk.slow")]
    DiskSlow { factor: u64 },
    #[serde(rename = "disk.stall")]
    DiskStall,
    #[serde(rename = "disk.full")]
    DiskFull {
        #[serde(default)]
        stores: Stores,
    },
    #[serde(rename = "disk.io_error")]
    DiskIoError {
        #[serde(default)]
        stores: Stores,
    },
    #[serde(rename = "clock.skew")]
    ClockSkew { speed: f64 },
    #[serde(rename = "clock.jump")]
    ClockJump { jump_ms: u64 },
    #[serde(rename = "client.crash")]
    ClientCrash,
    #[serde(rename = "client.pause")]
    ClientPause,
    #[serde(rename = "disk.bitrot")]
    DiskBitrot { store: RotStore },
    #[serde(rename = "ops.transfer")]
    OpsTransfer,
    #[serde(rename = "ops.join")]
    OpsJoin,
    #[serde(rename = "ops.leave")]
    OpsLeave,
    #[serde(rename = "ops.move")]
    OpsMove,
    #[serde(rename = "ops.unpin")]
    OpsUnpin,
    #[serde(rename = "ops.rollback")]
    OpsRollback,
}

impl Action {
    /// Its kind.
    pub fn kind(&self) -> FaultKind {
        match self {
            Action::NetLoss { .. } => FaultKind::NetLoss,
            Action::NetDelay { .. } => FaultKind::NetDelay,
            Action::NetReorder { .. } => FaultKind::NetReorder,
            Action::NetDuplicate { .. } => FaultKind::NetDuplicate,
            Action::NetPartition { .. } => FaultKind::NetPartition,
            Action::NetSlow { .. } => FaultKind::NetSlow,
            Action::NetReset => FaultKind::NetReset,
            Action::NodeKill => FaultKind::NodeKill,
            Action::NodeRestart => FaultKind::NodeRestart,
            Action::NodeCrash => FaultKind::NodeCrash,
            Action::NodeCrashAll => FaultKind::NodeCrashAll,
            Action::NodePause => FaultKind::NodePause,
            Action::DiskTorn => FaultKind::DiskTorn,
            Action::DiskSlow { .. } => FaultKind::DiskSlow,
            Action::DiskStall => FaultKind::DiskStall,
            Action::DiskFull { .. } => FaultKind::DiskFull,
            Action::DiskIoError { .. } => FaultKind::DiskIoError,
            Action::ClockSkew { .. } => FaultKind::ClockSkew,
            Action::ClockJump { .. } => FaultKind::ClockJump,
            Action::ClientCrash => FaultKind::ClientCrash,
            Action::ClientPause => FaultKind::ClientPause,
            Action::DiskBitrot { .. } => FaultKind::DiskBitrot,
            Action::OpsTransfer => FaultKind::OpsTransfer,
            Action::OpsJoin => FaultKind::OpsJoin,
            Action::OpsLeave => FaultKind::OpsLeave,
            Action::OpsMove => FaultKind::OpsMove,
            Action::OpsUnpin => FaultKind::OpsUnpin,
            Action::OpsRollback => FaultKind::OpsRollback,
        }
    }
}
