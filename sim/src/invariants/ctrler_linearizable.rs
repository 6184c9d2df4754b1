//! ctrler.linearizable: what operators are told fits one order of all configs.
//!
//! Configs are numbered in the order in which they were made, and every answer names a number. So the order is known,
//! and only time has to be looked at: an answer is never older than one that was given before the question, a command
//! that was accepted makes a config of its own, and later than all that were known when it was asked. Together with
//! ctrler.refused and ctrler.deterministic this is linearizability (Herlihy and Wing, 1990).

use std::collections::BTreeSet;

use eraft::types::ConfigNum;

use super::configs::{Asked, Told};

/// The invariant.
#[derive(Default)]
pub struct Linearizable {
    /// The latest config that anybody was told of.
    told: ConfigNum,
    /// Configs that an operator was told to have made.
    made: BTreeSet<ConfigNum>,
    pub(super) judged: u64,
}

impl Linearizable {
    /// The latest config that anybody was told of.
    pub(super) fn told(&self) -> ConfigNum {
        self.told
    }

    /// `floor` is what [`Linearizable::told`] was when it was asked.
    pub(super) fn fits(&mut self, asked: &Asked, floor: ConfigNum, told: &Told) -> Result<(), String> {
        self.judged += 1;
        match (asked, told) {
            (Asked::Change(_), Told::Made(num)) => {
                self.told = self.told.max(*num);
                // Setting the number of shards makes config 0.
                if !self.made.insert(*num) {
                    return Err(format!("two commands were told to have made config {num}"));
                }
                if *num <= floor && floor.0 > 0 {
                    return Err(format!(
                        "a command made config {num}, and config {floor} was known before it"
                    ));
                }
            }
            (Asked::Query(number), Told::Config(config, oldest, latest)) => {
                self.told = self.told.max(*latest);
                if *latest < floor {
                    return Err(format!(
                        "an answer says that config {latest} is the latest, and config {floor} was known before"
                    ));
                }
                let num = number.unwrap_or(*latest);
                let found = config.as_ref().map(|config| config.num);
                let is_kept = (*oldest..=*latest).contains(&num);
                if is_kept != found.is_some() || (number.is_none() && found != Some(*latest)) {
                    return Err(format!(
                        "a question for config {num} found {found:?}, and {oldest} to {latest} are kept"
                    ));
                }
            }
            _ => {}
        }
        Ok(())
    }
}
