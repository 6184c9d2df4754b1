//! world
use crate::artifact::RunRequest;
use crate::outcome::Outcome;
use crate::runner::{Internal, RunOptions};
/// Runs a plan.
pub fn run(_: &RunRequest, _: &RunOptions) -> Result<Outcome, Internal> {
    Err(Internal("this build has no world to run".to_owned()))
}
