//! A linearizability checker.

pub mod check;
mod engine;
pub mod history;
pub mod model;
pub mod models;
mod read;
pub mod report;
pub mod value;

pub use check::{Options, check, linearize};
pub use history::{History, HistoryBuilder, Operation, Outcome};
pub use model::{Class, Model};
pub use models::ModelKind;
pub use read::event::{Event, EventType, FieldError, Wire};
pub use read::jsonl::write_jsonl;
pub use read::lines::Malformed;
pub use read::{AnyHistory, Format, check_jsonl, read_history};
pub use report::{Evidence, Report, Role, Verdict};
pub use value::Value;
