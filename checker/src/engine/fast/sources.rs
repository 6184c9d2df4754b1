//! Where a content comes from: the writes and the appended tokens of a partition, by what they write.

use std::hash::BuildHasher;

use hashbrown::{HashTable, hash_table};
use rustc_hash::FxBuildHasher;

use crate::engine::fast::{INFINITY, NONE, NotApplicable, View};
use crate::model::{Content, Model, Reveal};

/// The different lengths of what is put, or appended, that are looked for at the beginning of a content. With more of them
/// that would take longer than a search.
const LENGTHS_MAX: usize = 256;

/// Tables begin with room for so many operations at most. If by then no content was repeated, room is made for all: growing
/// means moving everything again and again.
const ROOM_OPERATIONS_MAX: usize = 64;

/// Room for one in so many more than are expected.
const ROOM_SLACK_SHARE: usize = 16;

/// What most contents consist of.
const ROOM_PARTS: usize = 16;

/// So many repeated contents say nothing about the rest of the partition yet.
const REPEATED_MIN: usize = 32;

/// An entry of a table, with enough of the hash to move it and to tell it from most others without looking it up: what
/// is in the table is far away in memory.
#[derive(Clone, Copy)]
struct Entry {
    short_hash: u32,
    number: u32,
}

#[derive(Default)]
struct Table(HashTable<Entry>);

impl Table {
    fn spread(short_hash: u32) -> u64 {
        // An odd constant: the table takes bits from both ends.
        u64::from(short_hash).wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }

    #[inline]
    fn short_hash(content: Content<'_>) -> u32 {
        let hash = match content {
            Content::Bytes(bytes) => FxBuildHasher.hash_one(bytes),
            _ => FxBuildHasher.hash_one(content),
        };
        (hash >> 32) as u32 ^ hash as u32
    }

    /// The number that is there for this content already; if there is none, `number` is from now on.
    fn find_or_insert(
        &mut self,
        content: Content<'_>,
        number: u32,
        mut is_it: impl FnMut(u32) -> bool,
    ) -> Option<u32> {
        let short_hash = Self::short_hash(content);
        let is_entry = |entry: &Entry| entry.short_hash == short_hash && is_it(entry.number);
        let hash_of = |entry: &Entry| Self::spread(entry.short_hash);
        match self.0.entry(Self::spread(short_hash), is_entry, hash_of) {
            hash_table::Entry::Occupied(known) => Some(known.get().number),
            hash_table::Entry::Vacant(vacant) => {
                vacant.insert(Entry { short_hash, number });
                None
            }
        }
    }

    fn find(&self, content: Content<'_>, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let short_hash = Self::short_hash(content);
        let found = self
            .0
            .find(Self::spread(short_hash), |entry| entry.short_hash == short_hash && is_it(entry.number));
        found.map(|entry| entry.number)
    }
}

/// The writes and appends of a partition.
pub(super) struct Sources<'v> {
    pub(super) initial: Content<'v>,
    /// For each epoch its root; the first epoch has none.
    pub(super) roots: Vec<u32>,
    /// Epochs by the content of the root.
    by_content: Table,
    /// Epochs whose content several roots have.
    repeated: Vec<bool>,
    /// How many roots have a content that one before them has.
    repeats: usize,
    /// The different lengths of what is put, as bytes.
    put_lengths: Vec<usize>,
    /// The first append of each token.
    tokens: Table,
    token_lengths: Vec<usize>,
    /// The next append of the same token; empty without appends.
    next_same: Vec<u32>,
    /// Whether there are writes of nothing, such as deletes.
    deletes: bool,
    /// The first return of a write.
    pub(super) first_write_returned: u32,
}

/// What a read may descend from.
pub(super) enum Root {
    /// This epoch.
    Epoch(u32),
    /// Most likely this epoch.
    Perhaps(u32),
    /// Nothing.
    Nowhere,
}

impl<'v> Sources<'v> {
    pub(super) fn new<'a: 'v, M: Model>(view: &View<'v, 'a, M>) -> Result<Self, NotApplicable> {
        let initial = view.model.initial().ok_or(NotApplicable)?;
        // Room for most partitions of many, so that small ones need not grow into it.
        let room = view.operations.len().min(ROOM_OPERATIONS_MAX);
        let mut sources = Sources {
            initial,
            roots: Vec::with_capacity(room + 1),
            by_content: Table(HashTable::with_capacity(room + 1)),
            repeated: Vec::with_capacity(room + 1),
            repeats: 0,
            put_lengths: Vec::new(),
            tokens: Table::default(),
            token_lengths: Vec::new(),
            next_same: Vec::new(),
            deletes: false,
            first_write_returned: INFINITY,
        };
        sources.roots.push(NONE);
        sources.repeated.push(false);
        sources.by_content.find_or_insert(initial, 0, |_| false);
        for number in view.numbers() {
            match view.reveal(number) {
                Reveal::Writes(content) => sources.add_write(view, number, content)?,
                Reveal::Appends(token) => sources.add_append(view, number, token)?,
                Reveal::Reads(_) => {}
                Reveal::Nothing if view.is_idle(number) => {}
                Reveal::Nothing | Reveal::Swaps { .. } => return Err(NotApplicable),
            }
        }
        let list = matches!(initial, Content::List(_)) && sources.roots.len() > 1;
        let lengths = sources.put_lengths.len().max(sources.token_lengths.len());
        if sources.has_appends()
            && (sources.deletes || list || lengths > LENGTHS_MAX || matches!(initial, Content::Number(_)))
        {
            return Err(NotApplicable);
        }
        sources.put_lengths.sort_unstable();
        sources.token_lengths.sort_unstable();
        Ok(sources)
    }

    pub(super) fn has_appends(&self) -> bool {
        !self.next_same.is_empty()
    }

    fn content_of<'a: 'v, M: Model>(&self, view: &View<'v, 'a, M>, epoch: u32) -> Content<'v> {
        content_of(view, self.roots[epoch as usize], self.initial)
    }

    fn epoch_with<'a: 'v, M: Model>(&self, view: &View<'v, 'a, M>, content: Content<'_>) -> Option<u32> {
        self.by_content.find(content, |epoch| self.content_of(view, epoch) == content)
    }

    /// Gives up if most writes repeat what others write: then some read will not say which of them it saw.
    fn add_write<'a: 'v, M: Model>(
        &mut self,
        view: &View<'v, 'a, M>,
        number: u32,
        content: Content<'v>,
    ) -> Result<(), NotApplicable> {
        self.first_write_returned = self.first_write_returned.min(view.back(number));
        let epoch = self.roots.len() as u32;
        self.roots.push(number);
        self.repeated.push(false);
        self.deletes |= content == Content::Absent;
        if self.roots.len() == ROOM_OPERATIONS_MAX && self.repeats == 0 {
            self.make_room(view, number);
        }
        let Sources { by_content, roots, initial, .. } = self;
        let is_it = |epoch: u32| content_of(view, roots[epoch as usize], *initial) == content;
        if let Some(other) = by_content.find_or_insert(content, epoch, is_it) {
            self.repeated[other as usize] = true;
            self.repeats += 1;
            let most = self.repeats > REPEATED_MIN && 2 * self.repeats > self.roots.len();
            return if most { Err(NotApplicable) } else { Ok(()) };
        }
        if let Content::Bytes(bytes) = content {
            note_length(&mut self.put_lengths, bytes.len());
        }
        Ok(())
    }

    /// Makes room for as many writes as there will be if there are as many of them behind `number` as before.
    fn make_room<'a: 'v, M: Model>(&mut self, view: &View<'v, 'a, M>, number: u32) {
        let (operations, writes) = (view.operations.len(), self.roots.len());
        let more = (operations - number as usize) * writes / (number as usize + 1);
        let more = more + more / ROOM_SLACK_SHARE;
        self.roots.reserve(more);
        self.repeated.reserve(more);
        self.by_content.0.reserve(more, |entry| Table::spread(entry.short_hash));
    }

    fn add_append<'a: 'v, M: Model>(
        &mut self,
        view: &View<'v, 'a, M>,
        number: u32,
        token: &[u8],
    ) -> Result<(), NotApplicable> {
        if token.is_empty() {
            return Err(NotApplicable);
        }
        if self.next_same.is_empty() {
            self.next_same = vec![NONE; view.operations.len()];
            self.tokens = Table(HashTable::with_capacity(view.operations.len().min(ROOM_OPERATIONS_MAX)));
        }
        let is_it = |number: u32| token_of(view, number) == token;
        if let Some(first) = self.tokens.find_or_insert(Content::Bytes(token), number, is_it) {
            self.next_same[number as usize] = self.next_same[first as usize];
            self.next_same[first as usize] = number;
            return Ok(());
        }
        note_length(&mut self.token_lengths, token.len());
        Ok(())
    }

    /// The first append of a token in the table; others follow by [`Sources::same`].
    fn first_append<'a: 'v, M: Model>(&self, view: &View<'v, 'a, M>, token: &[u8]) -> Option<u32> {
        self.tokens.find(Content::Bytes(token), |number| token_of(view, number) == token)
    }

    /// All appends of the token of `first`.
    pub(super) fn same(&self, first: u32) -> impl Iterator<Item = u32> + '_ {
        std::iter::successors(Some(first), |number| {
            Some(self.next_same[*number as usize]).filter(|next| *next != NONE)
        })
    }

    /// The length of the content at the beginning of an epoch, in bytes or elements.
    pub(super) fn root_length<'a: 'v, M: Model>(&self, view: &View<'v, 'a, M>, epoch: u32) -> usize {
        length(self.content_of(view, epoch))
    }

    /// The epoch that `content`, read by `read`, belongs to.
    pub(super) fn root_of<'a: 'v, M: Model>(
        &self,
        view: &View<'v, 'a, M>,
        read: u32,
        content: Content<'v>,
    ) -> Result<Root, NotApplicable> {
        if !self.has_appends() {
            return match self.epoch_with(view, content) {
                Some(epoch) if self.repeated[epoch as usize] => Err(NotApplicable),
                Some(epoch) => Ok(Root::Epoch(epoch)),
                None => Ok(Root::Nowhere),
            };
        }
        let bytes = match content {
            Content::Bytes(bytes) => bytes,
            Content::List(_) | Content::Absent => return Ok(Root::Epoch(0)),
            Content::Number(_) => return Err(NotApplicable),
        };
        let puts = self.put_lengths.iter().filter_map(|length| {
            let epoch = self.epoch_with(view, Content::Bytes(bytes.get(..*length)?))?;
            (epoch != 0).then_some((epoch, *length))
        });
        let mut puts = puts.fuse();
        let put = match (puts.next(), puts.next()) {
            (Some(first), Some(second)) => {
                // More than one is the beginning; behind it there must be what was appended.
                let all = [first, second].into_iter().chain(puts);
                let mut possible = all.filter(|(_, length)| self.may_go_on(view, &bytes[*length..]));
                match (possible.next(), possible.next()) {
                    (Some(only), None) => Some(only),
                    _ => return Err(NotApplicable),
                }
            }
            (first, _) => first,
        };
        let at_first = self.may_be_first(view, read, bytes);
        match put {
            Some((epoch, _)) if self.repeated[epoch as usize] => Err(NotApplicable),
            Some((epoch, _)) if at_first => Ok(Root::Perhaps(epoch)),
            Some((epoch, _)) => Ok(Root::Epoch(epoch)),
            None if self.repeated[0] => Err(NotApplicable),
            None => Ok(Root::Epoch(0)),
        }
    }

    /// Whether `bytes` may descend from the content at first: no write had returned, and they begin like it.
    fn may_be_first<'a: 'v, M: Model>(&self, view: &View<'v, 'a, M>, read: u32, bytes: &[u8]) -> bool {
        let initial = if let Content::Bytes(initial) = self.initial { initial } else { &[] };
        let rest = bytes.strip_prefix(initial);
        view.call(read) < self.first_write_returned && rest.is_some_and(|rest| self.may_go_on(view, rest))
    }

    /// Whether `rest` may consist of what was appended.
    fn may_go_on<'a: 'v, M: Model>(&self, view: &View<'v, 'a, M>, rest: &[u8]) -> bool {
        rest.is_empty() || self.token_at(view, rest).is_some()
    }

    /// The tokens that `rest` begins with: one, `Err` if several do, `None` if none does.
    fn token_at<'a: 'v, M: Model>(
        &self,
        view: &View<'v, 'a, M>,
        rest: &[u8],
    ) -> Option<Result<u32, NotApplicable>> {
        let mut found = self
            .token_lengths
            .iter()
            .map_while(|length| rest.get(..*length))
            .filter_map(|token| self.first_append(view, token));
        let first = found.next()?;
        Some(if found.next().is_some() { Err(NotApplicable) } else { Ok(first) })
    }

    /// Takes `content` behind its first `from` bytes or elements apart: the first append of each token, and the length
    /// of the content behind it. `None` if that cannot be done.
    pub(super) fn take_apart<'a: 'v, M: Model>(
        &self,
        view: &View<'v, 'a, M>,
        content: Content<'v>,
        from: usize,
    ) -> Result<Option<Vec<(u32, usize)>>, NotApplicable> {
        let mut parts = Vec::with_capacity(ROOM_PARTS);
        let mut at = from;
        while at < length(content) {
            let (append, step) = match content {
                Content::Bytes(bytes) => match self.token_at(view, &bytes[at..]) {
                    Some(append) => {
                        let append = append?;
                        (Some(append), token_of(view, append).len())
                    }
                    None => (None, 0),
                },
                Content::List(list) => (self.first_append(view, list[at].as_bytes()), 1),
                Content::Absent | Content::Number(_) => (None, 0),
            };
            let Some(append) = append else { return Ok(None) };
            at += step;
            parts.push((append, at));
        }
        Ok(Some(parts))
    }
}

/// The content of an epoch with this root.
fn content_of<'v, 'a: 'v, M: Model>(view: &View<'v, 'a, M>, root: u32, initial: Content<'v>) -> Content<'v> {
    match if root == NONE { Reveal::Nothing } else { view.reveal(root) } {
        Reveal::Writes(content) => content,
        _ => initial,
    }
}

fn token_of<'v, 'a: 'v, M: Model>(view: &View<'v, 'a, M>, number: u32) -> &'v [u8] {
    match view.reveal(number) {
        Reveal::Appends(token) => token,
        _ => &[],
    }
}

/// Adds a length, unless it is there or there are too many.
fn note_length(lengths: &mut Vec<usize>, length: usize) {
    if lengths.len() <= LENGTHS_MAX && !lengths.contains(&length) {
        lengths.push(length);
    }
}

/// The length of a content, in bytes or elements.
pub(super) fn length(content: Content<'_>) -> usize {
    match content {
        Content::Absent | Content::Number(_) => 0,
        Content::Bytes(bytes) => bytes.len(),
        Content::List(list) => list.len(),
    }
}

/// Whether `longer` begins with all of `shorter`.
pub(super) fn begins_with(longer: Content<'_>, shorter: Content<'_>) -> bool {
    match (longer, shorter) {
        (Content::Bytes(longer), Content::Bytes(shorter)) => longer.starts_with(shorter),
        (Content::List(longer), Content::List(shorter)) => longer.starts_with(shorter),
        (_, Content::Absent) => true,
        _ => longer == shorter,
    }
}
