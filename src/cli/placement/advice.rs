//! What to do about a refusal of the controllers. Its sentence is a part of the replicated state and stays as it is; the
//! advice is the command line's.

use crate::client::{Outcome, Refused};

/// The same outcome, with advice if it is a refusal that wants some.
pub(super) fn advised<T>(outcome: Outcome<T>) -> Outcome<T> {
    match outcome {
        Outcome::Refused(Refused { unavailable: false, detail }) => {
            Outcome::Refused(Refused { unavailable: false, detail: with_advice(detail) })
        }
        other => other,
    }
}

/// A refusal in the controllers' words, and what to do.
pub(super) fn with_advice(detail: String) -> String {
    let advice = if detail.ends_with(" is not joined") {
        "`eraft query` shows the groups that are, `eraft join` adds one"
    } else if detail.starts_with("shard ") && detail.contains(" does not exist") {
        "give one of these"
    } else if detail.ends_with(" is not pinned") {
        "`eraft query` shows the shards that are; `eraft move` pins one"
    } else {
        return detail;
    };
    format!("{detail}; {advice}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctrler::Refusal;
    use crate::types::{GroupId, ShardId};

    #[test]
    fn the_controllers_words_are_known() {
        for (refusal, advice) in [
            (Refusal::UnknownGroup(GroupId(9)), "eraft join"),
            (Refusal::UnknownShard { shard: ShardId(10), shards: 10 }, "give one of these"),
            (Refusal::NotPinned(ShardId(3)), "eraft move"),
        ] {
            let said = refusal.to_string();
            let advised = with_advice(said.clone());
            assert!(advised.starts_with(&said) && advised.contains(advice), "{advised}");
        }
        let clear = Refusal::NothingChanges.to_string();
        assert_eq!(with_advice(clear.clone()), clear);
    }

    #[test]
    fn only_a_refusal_gets_advice() {
        let detail = "group 9 is not joined".to_owned();
        let refused = |unavailable| Outcome::<()>::Refused(Refused { unavailable, detail: detail.clone() });
        assert_eq!(advised(refused(true)), refused(true), "nobody was asked");
        assert_ne!(advised(refused(false)), refused(false));
        assert_eq!(advised(Outcome::<()>::Unknown(detail.clone())), Outcome::Unknown(detail));
    }
}
