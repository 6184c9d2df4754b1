//! Pages of keys in order, of one group or of all shards.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;

use super::group::{Ask, Way};
use super::shards::Shards;
use super::{Client, Outcome, Refused, Target};
use crate::proto::kv::{self as pb, done, request};
use crate::replica::timers::Moment;
use crate::types::ShardId;

/// Shards that one scan asks at the same time.
const SHARDS_AT_ONCE: usize = 16;

/// A part of the keys, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Keys and values.
    pub pairs: Vec<(Bytes, Bytes)>,
    /// True if there may be further keys: go on after the last one.
    pub more: bool,
}

/// What is looked for.
#[derive(Clone)]
struct Wanted {
    prefix: Bytes,
    after: Option<Bytes>,
    pairs_max: usize,
}

impl Client {
    /// The first pairs whose keys start with `prefix` and lie behind `after`, in order, at most `pairs_max` (and at
    /// least one, if there is one). Go on after the last key while the page says that there are more.
    ///
    /// Of one group, a page is the state at one moment of this call. Of a sharded store, it is put together from all
    /// shards: **each shard's part is its state at one moment of this call, but not all at the same moment**, so a
    /// page may show a later write to one shard and not an earlier one to another. Pages of one scan are from different
    /// moments in any case; no key is seen twice, and none that was there all the time is missed.
    pub async fn scan(&self, prefix: Bytes, after: Option<Bytes>, pairs_max: usize) -> Outcome<Page> {
        let wanted = Wanted { prefix, after, pairs_max: pairs_max.max(1) };
        let deadline = self.context.deadline();
        match &self.target {
            Target::Group(group, _) => page(group, None, &wanted, deadline).await,
            Target::Shards(shards) => whole_page(shards, &wanted, deadline).await,
        }
    }
}

/// Of all shards together.
async fn whole_page(shards: &Shards, wanted: &Wanted, deadline: Moment) -> Outcome<Page> {
    let config = match shards.config(deadline).await {
        Ok(config) => config,
        Err(refused) => return Outcome::Refused(refused),
    };
    let wanted = Arc::new(wanted.clone());
    let asked = (0..config.shards.len() as u64).map(|shard| {
        let wanted = wanted.clone();
        async move { page(shards, Some(ShardId(shard)), &wanted, deadline).await }
    });
    let mut parts = futures_util::stream::iter(asked).buffered(SHARDS_AT_ONCE);
    let mut pages = Vec::new();
    while let Some(part) = parts.next().await {
        match part {
            Outcome::Ok(page) => pages.push(page),
            other => return other,
        }
    }
    Outcome::Ok(merge(pages, wanted.pairs_max))
}

/// The first pairs of all pages together. What lies behind the end of a page that is not complete is not known.
fn merge(pages: Vec<Page>, pairs_max: usize) -> Page {
    let incomplete = pages.iter().filter(|page| page.more);
    let known_to = incomplete.filter_map(|page| page.pairs.last().map(|(key, _)| key.clone())).min();
    let mut pairs: Vec<(Bytes, Bytes)> = pages.into_iter().flat_map(|page| page.pairs).collect();
    pairs.sort_unstable();
    let (found, is_incomplete) = (pairs.len(), known_to.is_some());
    if let Some(last) = known_to {
        pairs.retain(|(key, _)| *key <= last);
    }
    pairs.truncate(pairs_max);
    let more = is_incomplete || pairs.len() < found;
    Page { pairs, more }
}

/// Of one group or shard: at least `pairs_max` pairs, or all, or as many as fit into one answer.
async fn page(way: &impl Way, shard: Option<ShardId>, wanted: &Wanted, deadline: Moment) -> Outcome<Page> {
    let scan = pb::Scan {
        prefix: wanted.prefix.clone(),
        after: wanted.after.clone(),
        pairs_max: wanted.pairs_max as u64,
        stale: false,
    };
    let ask = Ask { operation: request::Operation::Scan(scan), shard, session: None };
    match way.attempts(&ask, deadline).await {
        Outcome::Ok(pb::Done { result: Some(done::Result::Scan(result)), .. }) => {
            let pairs = result.pairs.into_iter().map(|pair| (pair.key, pair.value)).collect();
            Outcome::Ok(Page { pairs, more: result.more })
        }
        Outcome::Ok(other) => Outcome::Refused(Refused {
            unavailable: false,
            detail: format!("an answer to another question: {other:?}"),
        }),
        Outcome::Refused(refused) => Outcome::Refused(refused),
        Outcome::Unknown(detail) => Outcome::Unknown(detail),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(keys: &[&'static str], more: bool) -> Page {
        Page { pairs: keys.iter().map(|key| ((*key).into(), "v".into())).collect(), more }
    }

    #[test]
    fn a_page_of_all_shards_ends_where_one_shard_is_not_known_further() {
        let merged = merge(vec![part(&["a", "d"], true), part(&["b", "c", "e"], true)], 10);
        assert_eq!(merged, part(&["a", "b", "c", "d"], true), "the first shard may have something before e");
        let merged = merge(vec![part(&["a", "d"], false), part(&["b", "e"], true)], 10);
        assert_eq!(merged, part(&["a", "b", "d", "e"], true), "the second may have something behind e");
    }

    #[test]
    fn a_page_is_bounded_and_says_whether_there_is_more() {
        let parts = || vec![part(&["a", "d"], false), part(&["b"], false)];
        assert_eq!(merge(parts(), 2), part(&["a", "b"], true));
        assert_eq!(merge(parts(), 10), part(&["a", "b", "d"], false));
        assert_eq!(merge(Vec::new(), 10), Page::default());
    }
}
