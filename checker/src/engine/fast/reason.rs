//! Contradictions in words.

use crate::engine::fast::NONE;
use crate::engine::part::Part;
use crate::evidence::name;
use crate::model::{Model, Reveal};

/// Three operations that keep an epoch open: its root, the one that returned first, and the one invoked last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(super) root: u32,
    pub(super) returned: u32,
    pub(super) called: u32,
    /// The read that shows where the other two belong, if they do not say.
    pub(super) shown: u32,
}

impl Span {
    fn members(&self) -> Vec<u32> {
        vec![self.root, self.returned, self.called, self.shown]
    }
}

/// What is wrong. Operations by place in the partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// What was read was never written, whole or piece by piece.
    NeverWritten { read: u32 },
    /// Two contents descend from the same write, but neither begins with the other.
    Apart { one: u32, other: u32 },
    /// An append shows twice.
    Twice { append: u32, read: u32 },
    /// What was read says that one comes before the other, but the other had returned when the one was invoked.
    Backwards { before: u32, after: u32, root: u32, shown: u32 },
    /// Two contents were both seen before and after the other.
    Overlap { one: Span, other: Span },
    /// A content came and went while another was seen before, after, and so all the time.
    Inside { outer: Span, inner: Span },
}

impl Why {
    /// The operations that it is about.
    pub(crate) fn core(&self) -> Vec<u32> {
        let mut core = match *self {
            Why::NeverWritten { read } => vec![read],
            Why::Apart { one, other } => vec![one, other],
            Why::Twice { append, read } => vec![append, read],
            Why::Backwards { before, after, root, shown } => vec![root, before, after, shown],
            Why::Overlap { one, other } => [one.members(), other.members()].concat(),
            Why::Inside { outer, inner } => [outer.members(), inner.members()].concat(),
        };
        core.retain(|number| *number != NONE);
        core.sort_unstable();
        core.dedup();
        core
    }

    /// The contradiction as a sentence.
    pub(crate) fn sentence<M: Model>(&self, model: &M, part: Part<'_, '_, M>) -> String {
        let name = |number: u32| name(model, part.get(number as usize));
        match *self {
            Why::NeverWritten { read } => {
                format!("{} shows what nobody had asked to write by the time it returned", name(read))
            }
            Why::Apart { one, other } => format!(
                "{} and {} contradict each other: neither content is the beginning of the other",
                name(one),
                name(other)
            ),
            Why::Twice { append, read } => {
                format!(
                    "{} took effect twice, as {} shows, alone or with other reads",
                    name(append),
                    name(read)
                )
            }
            Why::Backwards { before, after, shown, .. } => {
                let of = |number: u32| part.get(number as usize);
                let reads =
                    |number: u32| matches!(model.reveal(&of(number).op, of(number).ret()), Reveal::Reads(_));
                let (first, second) = (name(before), name(after));
                let shown = match shown {
                    shown if [NONE, before, after].contains(&shown) => String::new(),
                    shown => format!("; the order shows in {}", name(shown)),
                };
                match (reads(before), reads(after)) {
                    (false, true) => {
                        format!(
                            "{second} shows the effect of {first}, which was invoked only after that read had returned"
                        )
                    }
                    (false, false) => {
                        format!(
                            "{first} took effect before {second}, which had returned before the first was invoked{shown}"
                        )
                    }
                    (true, true) => {
                        format!(
                            "{first} misses what {second} had shown, which had returned before the first was invoked{shown}"
                        )
                    }
                    (true, false) => {
                        format!(
                            "{first} misses the effect of {second}, which had returned before the first was invoked{shown}"
                        )
                    }
                }
            }
            Why::Overlap { one, other } if one.returned == NONE => format!(
                "{} had returned before {} was invoked, which still shows the content at first",
                name(other.returned),
                name(one.called)
            ),
            Why::Overlap { one, other } => format!(
                "each of two contents came before the other: {} had returned before {} was invoked, but {} had returned \
                 before {} was invoked",
                name(one.returned),
                name(other.called),
                name(other.returned),
                name(one.called),
            ),
            Why::Inside { outer, inner } => {
                let content = match inner.root {
                    root if root == NONE || root == inner.returned => name(inner.returned),
                    root => format!("{} with {}", name(root), name(inner.returned)),
                };
                let from = match outer.returned {
                    NONE => "since the start".to_owned(),
                    returned => format!("since {} returned", name(returned)),
                };
                format!(
                    "{content} was invoked and returned before {} was invoked, which shows that nothing else had come {from}",
                    name(outer.called)
                )
            }
        }
    }
}
