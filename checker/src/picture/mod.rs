//! The picture of a history: one HTML file, which needs no network.
//!
//! The file holds the whole history, compressed; a script of ours draws the part of it that is visible on a canvas, so
//! that a hundred thousand operations are no more work than a hundred.
//!
//! Invariants:
//! - what comes from the history is data, never markup: it is JSON in a script element that is not executed, without a
//!   `<`, or escaped; the script makes text nodes and paints letters of it; and a policy in the page allows no script
//!   but ours and no connection;
//! - the same history, report and options make the same bytes, unless a timeout is set;
//! - the points that are shown as a linearization are one that was replayed against the model ([`order`]).

mod data;
pub mod html;
mod intervals;
mod order;
mod page;
mod text;

pub use intervals::Interval;
pub(crate) use intervals::intervals;

use crate::check::Options;
use crate::history::History;
use crate::model::Model;
use crate::report::Report;

/// The picture of `history`, on which a check found `report`, as HTML. The order of the operations is searched again, at
/// the cost that `options` allow for each partition; what cannot be ordered in time has no points.
pub fn picture<M: Model>(
    model: &M,
    history: &History<M::Op, M::Ret>,
    report: &Report,
    title: &str,
    options: &Options,
) -> String {
    let partitions = order::partitions(model, history, options);
    page::page(title, report, &data::columns(model, history, report, &partitions))
}
