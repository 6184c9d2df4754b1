//! Following the configs: each is adopted in turn, as soon as it is there; then the controllers are told.
//!
//! The group waits at any controller for the config that follows its own. A controller that is behind, or cut off from
//! the others, does not know better, so the group also asks all of them together every now and then. Neither costs an
//! entry in a log. A config that the controllers do not keep any more did not concern the group, as [`crate::ctrler`]
//! explains: the group goes on with the oldest one that is kept.

use std::time::Duration;

use super::Worker;
use crate::buggify::Point;
use crate::client::{Found, Which};
use crate::ctrler::{CtrlerAnswer, CtrlerQuery};
use crate::proto::shardkv::{self as pb, command};
use crate::shardkv::{Follow, ShardAnswer, ShardQuery, ShardReply, follow};
use crate::types::ConfigNum;

/// Questions in a row that one answer may lead to.
const QUESTIONS_MAX: usize = 3;

/// A group that has much to catch up with says how far it is after so many configs.
const REPORT_EVERY_CONFIGS: u64 = 16;

/// A group that the simulator makes late pauses as after so many failures.
const LATE_AS_AFTER_FAILURES: u32 = 4;

/// What the controllers were told last.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Reported {
    reached: ConfigNum,
    holds: bool,
}

impl Worker {
    /// Never ends.
    pub(super) async fn follow_configs(&self) {
        let clock = &self.surroundings.clock;
        let poll = Duration::from_millis(self.options.config_poll_ms);
        let mut reported = None;
        let mut polled = clock.now();
        let mut failures = 0;
        loop {
            let is_due = clock.now().since(polled) >= poll;
            if is_due {
                polled = clock.now();
            }
            if self.surroundings.buggify.forces(Point::LateConfig) {
                clock.sleep(self.pause(LATE_AS_AFTER_FAILURES)).await;
            }
            match self.follow(is_due, &mut reported).await {
                Ok(()) => failures = 0,
                Err(reason) => {
                    tracing::debug!(group = %self.group, reason, "not following the configs");
                    failures += 1;
                    clock.sleep(self.pause(failures)).await;
                }
            }
        }
    }

    /// Waits for the next config for a while, and adopts it if it comes.
    async fn follow(&self, is_due: bool, reported: &mut Option<Reported>) -> Result<(), String> {
        let mut progress = self.progress().await?;
        let adopted = progress.reached;
        let mut found = if is_due {
            self.ctrlers.query(Which::After(adopted)).await.into_result()?
        } else {
            self.ctrlers.await_config(adopted).await.into_result()?
        };
        for _ in 0..QUESTIONS_MAX {
            let Found { config, latest, oldest } = found.clone();
            let which = match follow(adopted, &CtrlerAnswer::Config { config, latest, oldest }) {
                Follow::Ask(CtrlerQuery::Num(num)) => Which::Num(num),
                Follow::Ask(CtrlerQuery::After(num)) => Which::After(num),
                Follow::Adopt(adopt) => {
                    self.adopt(adopt).await?;
                    self.nudge.notify_one();
                    progress = self.progress().await?;
                    break;
                }
                Follow::Ask(_) | Follow::Wait => break,
            };
            found = self.ctrlers.query(which).await.into_result()?;
        }
        let latest = found.latest;
        let told = reported.map_or(ConfigNum(0), |reported| reported.reached);
        let is_far = progress.reached.0 >= told.0 + REPORT_EVERY_CONFIGS;
        if *reported != Some(progress) && (progress.reached >= latest || is_far) {
            self.ctrlers.report(self.group, progress.reached, progress.holds).await.into_result()?;
            *reported = Some(progress);
        }
        Ok(())
    }

    async fn progress(&self) -> Result<Reported, String> {
        match self.look(ShardQuery::Standing).await? {
            ShardAnswer::Standing { config, holds } => Ok(Reported { reached: config, holds }),
            other => Err(format!("an answer to another question: {other:?}")),
        }
    }

    async fn adopt(&self, adopt: pb::Adopt) -> Result<(), String> {
        match self.propose(command::Operation::Adopt(adopt)).await? {
            ShardReply::Adopted(_) => Ok(()),
            other => Err(format!("an answer to another question: {other:?}")),
        }
    }
}
