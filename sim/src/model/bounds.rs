//! How far the models of a Raft group go.

/// How much of each may happen in one behaviour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize)]
pub struct Bounds {
    /// The highest term.
    pub term_max: u64,
    /// Losses of power.
    pub crashes: u8,
    /// Proposals.
    pub proposals: u8,
    /// Heartbeats of leaders.
    pub heartbeats: u8,
    /// Linearizable reads.
    pub reads: u8,
    /// Transfers of leadership.
    pub transfers: u8,
    /// Steps of one behaviour; 0: as many as there are.
    pub depth: u8,
}

impl Bounds {
    /// Their names, in the order of [`Bounds::values`].
    pub const NAMES: [&str; 7] =
        ["term_max", "crashes", "proposals", "heartbeats", "reads", "transfers", "depth"];

    /// The bounds in order.
    pub fn values(&self) -> [u64; 7] {
        let Self { term_max, crashes, proposals, heartbeats, reads, transfers, depth } = *self;
        let rest = [crashes, proposals, heartbeats, reads, transfers, depth].map(u64::from);
        std::array::from_fn(|at| if at == 0 { term_max } else { rest[at - 1] })
    }

    /// Sets one by its name; an unknown one sets nothing.
    pub fn set(&mut self, name: &str, bound: u8) {
        match name {
            "term_max" => self.term_max = bound.into(),
            "crashes" => self.crashes = bound,
            "proposals" => self.proposals = bound,
            "heartbeats" => self.heartbeats = bound,
            "reads" => self.reads = bound,
            "transfers" => self.transfers = bound,
            "depth" => self.depth = bound,
            _ => {}
        }
    }
}
