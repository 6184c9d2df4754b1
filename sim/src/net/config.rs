//! How links behave when nothing is cut: latency, and the rates of loss, duplication, delay and reordering.

use crate::timing::Spread;

/// One direction of a link. Rates are probabilities per message.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LinkConfig {
    /// How long a message travels.
    pub latency: Spread,
    /// Messages that never arrive.
    pub loss: f64,
    /// Messages that arrive twice.
    pub duplicate: f64,
    /// Messages that take `extra` longer and hold up those behind them.
    pub delay: f64,
    /// Messages that take `extra` longer and are overtaken.
    pub reorder: f64,
    /// What delayed, reordered and second copies of messages take on top.
    pub extra: Spread,
    /// All that fits through the link; `None`: no limit.
    pub bytes_per_second: Option<u64>,
    /// What a stream holds in flight before its sender has to wait.
    pub buffer_bytes: usize,
}

impl Default for LinkConfig {
    /// A quiet data centre, at the scale that the simulated clock allows.
    fn default() -> Self {
        Self {
            latency: Spread::millis(1, 3, 30),
            loss: 0.0,
            duplicate: 0.0,
            delay: 0.0,
            reorder: 0.0,
            extra: Spread::millis(5, 30, 300),
            bytes_per_second: None,
            buffer_bytes: 1 << 20,
        }
    }
}

/// The network.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct NetConfig {
    /// Every link that has no setting of its own.
    pub link: LinkConfig,
    /// How long things go unnoticed.
    pub notice: NoticeConfig,
}

/// How long it takes until somebody notices.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NoticeConfig {
    /// The answer to a killed process's connections: its operating system lives and resets them.
    pub process_death: Spread,
    /// The end of a connection whose other side is silent: a power loss, a cut.
    pub silence: Spread,
    /// The end of an attempt to connect that nobody answers.
    pub connect_timeout: Spread,
}

impl Default for NoticeConfig {
    fn default() -> Self {
        Self {
            process_death: Spread::millis(1, 5, 50),
            silence: Spread::millis(2_000, 5_000, 15_000),
            connect_timeout: Spread::millis(500, 1_000, 3_000),
        }
    }
}

/// The settings for madsim itself under this network: no loss, and the least latency that it can have, because every
/// fault and every delay is ours.
pub fn madsim_config() -> madsim::Config {
    use std::time::Duration;
    let mut config = madsim::Config::default();
    config.net.packet_loss_rate = 0.0;
    config.net.send_latency = Duration::from_nanos(1)..Duration::from_nanos(2);
    config
}
