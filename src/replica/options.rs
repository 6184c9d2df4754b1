//! The timings and bounds of a replica, each with its unit.

use std::time::Duration;

/// How a replica paces and limits itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// A leader sends a heartbeat this often.
    pub heartbeat_ms: u64,
    /// An election timeout is drawn from this range, inclusive, each time it is armed.
    pub election_timeout_ms: (u64, u64),
    /// The applied state is flushed at the latest this long after it changed.
    pub apply_flush_ms: u64,
    /// The applied state is flushed when this much waits; at twice as much, applying waits.
    pub apply_overlay_bytes_max: usize,
    /// The log in memory is compacted above this size.
    pub log_bytes_max: usize,
    /// Events waiting for the driver.
    pub inbox_capacity: usize,
    /// Events that the driver takes before it looks at its disk and timers again.
    pub inbox_batch_max: usize,
    /// Confirmed reads that wait for the state to get there; more are refused.
    pub reads_max: usize,
    /// Streams of clients at a time; more are refused.
    pub client_streams_max: usize,
    /// Messages waiting for a peer; more are dropped.
    pub peer_queue_capacity: usize,
    /// A peer stream on which nothing came back for this long is opened anew.
    pub peer_silence_ms: u64,
    /// How long one attempt to connect may take.
    pub connect_timeout_ms: u64,
    /// The pause between attempts to connect grows from the first to the second, with jitter.
    pub reconnect_backoff_ms: (u64, u64),
    /// Bytes of pairs in one chunk of a snapshot.
    pub snapshot_chunk_bytes_max: usize,
    /// A snapshot stream on which nothing moves for this long is given up.
    pub snapshot_silence_ms: u64,
    /// After a snapshot stream failed, the sender keeps the snapshot and the receiver what it got for this long.
    pub snapshot_hold_ms: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            heartbeat_ms: 50,
            election_timeout_ms: (300, 600),
            apply_flush_ms: 200,
            apply_overlay_bytes_max: 4 << 20,
            log_bytes_max: 64 << 20,
            inbox_capacity: 4096,
            inbox_batch_max: 512,
            reads_max: 16 << 10,
            client_streams_max: 4096,
            peer_queue_capacity: 1024,
            peer_silence_ms: 2_000,
            connect_timeout_ms: 1_000,
            reconnect_backoff_ms: (50, 1_000),
            snapshot_chunk_bytes_max: 512 << 10,
            snapshot_silence_ms: 10_000,
            snapshot_hold_ms: 60_000,
        }
    }
}

impl Options {
    /// What is wrong with these options, if anything.
    pub fn check(&self) -> Result<(), String> {
        let (low, high) = self.election_timeout_ms;
        if low > high {
            return Err(format!("election_timeout_ms: {low} is above {high}"));
        }
        if self.heartbeat_ms == 0 || 2 * self.heartbeat_ms > low {
            return Err(format!(
                "heartbeat_ms: {} must be at least 1 and at most half the shortest election timeout, {low}",
                self.heartbeat_ms
            ));
        }
        let bounds = [
            ("inbox_capacity", self.inbox_capacity),
            ("inbox_batch_max", self.inbox_batch_max),
            ("reads_max", self.reads_max),
            ("client_streams_max", self.client_streams_max),
            ("peer_queue_capacity", self.peer_queue_capacity),
            ("snapshot_chunk_bytes_max", self.snapshot_chunk_bytes_max),
        ];
        match bounds.iter().find(|(_, bound)| *bound == 0) {
            Some((name, _)) => Err(format!("{name}: must be at least 1")),
            None => Ok(()),
        }
    }
}

/// Milliseconds as a duration.
pub(crate) fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}
