//! ctrler.deterministic: all controllers make the same configs, and answer with them.
//!
//! Source: state machine replication (Schneider 1990); eRaft's controllers answered one question with several configs
//! after a restart (B2), and dealt shards in the order of a hash map (B32).

use eraft::ctrler::{Config, SHARDS_DEFAULT};
use eraft::types::NodeId;

use super::configs::{Asked, Kept, Told};

/// The invariant.
#[derive(Default)]
pub struct Deterministic {
    pub(super) judged: u64,
}

impl Deterministic {
    /// `node` made `config`.
    pub(super) fn made(&mut self, node: NodeId, config: &Config, kept: &Kept) -> Result<(), String> {
        let Some(known) = kept.get(&config.num) else { return Ok(()) };
        self.judged += 1;
        if known == config {
            return Ok(());
        }
        Err(format!(
            "{node} made another config {} than a controller before it: {}",
            config.num,
            difference(known, config)
        ))
    }

    /// An operator was told of a config.
    pub(super) fn told(&mut self, asked: &Asked, told: &Told, kept: &Kept) -> Result<(), String> {
        let (Asked::Query(number), Told::Config(Some(config), ..)) = (asked, told) else { return Ok(()) };
        self.judged += 1;
        if let Some(number) = number
            && *number != config.num
        {
            return Err(format!("a question for config {number} was answered with config {}", config.num));
        }
        // The number of shards may be chosen later than that question.
        if *config == Config::empty(SHARDS_DEFAULT) {
            return Ok(());
        }
        match kept.get(&config.num) {
            Some(known) if known != config => Err(format!(
                "an answer has another config {} than was made: {}",
                config.num,
                difference(known, config)
            )),
            // Before the first command nothing was made, and there is an empty config.
            None if config.num.0 > 0 => {
                Err(format!("an answer has config {}, which nobody made", config.num))
            }
            _ => Ok(()),
        }
    }
}

fn difference(one: &Config, other: &Config) -> String {
    let shards = one.placements().zip(&other.shards).find(|((_, one), other)| one != other);
    match shards {
        Some(((shard, one), other)) => format!("shard {shard} is {one:?} there and {other:?} here"),
        None => "other groups or addresses".to_owned(),
    }
}
