//! A bank: transfers between accounts, reads of all balances. Every operation may touch several accounts, so there is one
//! partition, and the search does all the work.

use std::collections::BTreeMap;

use crate::model::{Class, Model};

/// A request to the bank.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum BankOp {
    /// Moves money, if there is enough.
    Transfer {
        /// From this account.
        from: u32,
        /// To this account.
        to: u32,
        /// So much.
        amount: u64,
    },
    /// Reads all balances.
    Read,
}

/// An answer of the bank.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum BankRet {
    /// To a transfer: whether there was enough.
    Moved(bool),
    /// To a read: what every account has.
    Balances(BTreeMap<u32, u64>),
}

/// The model of a bank.
#[derive(Clone, Debug)]
pub struct Bank {
    initial: BTreeMap<u32, u64>,
}

impl Bank {
    /// A bank whose accounts have these balances at first. There are no other accounts.
    pub fn new(initial: BTreeMap<u32, u64>) -> Bank {
        Bank { initial }
    }
}

impl Model for Bank {
    type State = BTreeMap<u32, u64>;
    type Op = BankOp;
    type Ret = BankRet;
    type Key = ();

    fn init(&self) -> BTreeMap<u32, u64> {
        self.initial.clone()
    }

    fn step(
        &self,
        state: &BTreeMap<u32, u64>,
        op: &BankOp,
        ret: Option<&BankRet>,
    ) -> Option<BTreeMap<u32, u64>> {
        match (op, ret) {
            (BankOp::Read, None) => Some(state.clone()),
            (BankOp::Read, Some(BankRet::Balances(read))) => (read == state).then(|| state.clone()),
            (BankOp::Transfer { from, to, amount }, None | Some(BankRet::Moved(_))) => {
                let mut next = state.clone();
                let held = next.get(from).copied().unwrap_or(0);
                let moves = held >= *amount && next.contains_key(from) && next.contains_key(to);
                if moves {
                    next.insert(*from, held - amount);
                    next.entry(*to).and_modify(|held| *held = held.saturating_add(*amount));
                }
                match ret {
                    Some(BankRet::Moved(moved)) if *moved != moves => None,
                    _ => Some(next),
                }
            }
            _ => None,
        }
    }

    fn class(&self, op: &BankOp, ret: Option<&BankRet>) -> Class {
        match (op, ret) {
            (BankOp::Read, _) | (_, Some(BankRet::Moved(false))) => Class::ReadOnly,
            _ => Class::General,
        }
    }

    fn describe(&self, op: &BankOp, ret: Option<&BankRet>) -> String {
        let request = match op {
            BankOp::Transfer { from, to, amount } => format!("transfer {amount} from {from} to {to}"),
            BankOp::Read => "read".to_owned(),
        };
        match ret {
            None => format!("{request} -> unknown"),
            Some(BankRet::Moved(moved)) => format!("{request} -> moved: {moved}"),
            Some(BankRet::Balances(balances)) => format!("{request} -> {balances:?}"),
        }
    }

    fn state_bytes(&self, state: &BTreeMap<u32, u64>) -> usize {
        state.len() * size_of::<(u32, u64)>()
    }
}
