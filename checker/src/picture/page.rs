//! The page around the history.

use serde_json::json;

use crate::picture::data::Columns;
use crate::picture::html::{self, compressed, escape};
use crate::report::{Report, Verdict};

const PAGE: &str = include_str!("assets/page.html");
const STYLE: &str = include_str!("assets/style.css");

/// The script, in the order in which its parts need each other.
const SCRIPT: [&str; 5] = [
    include_str!("assets/data.js"),
    include_str!("assets/scene.js"),
    include_str!("assets/draw.js"),
    include_str!("assets/panel.js"),
    include_str!("assets/main.js"),
];

/// The page, with everything in it.
pub(crate) fn page(title: &str, report: &Report, columns: &Columns) -> String {
    let script = html::script(&SCRIPT);
    let heading = match report.verdict {
        Verdict::Linearizable => "Linearizable",
        Verdict::Violation => "Not linearizable",
        Verdict::Undecided => "Undecided",
    };
    html::fill(PAGE, |name| match name {
        "policy" => html::policy(STYLE, &script),
        "title" => escape(title),
        "verdict" => report.verdict.to_string(),
        "heading" => heading.to_owned(),
        "reason" => escape(&reason(report)),
        "version" => env!("CARGO_PKG_VERSION").to_owned(),
        "style" => STYLE.to_owned(),
        "history" => history(report, columns),
        "script" => script.clone(),
        other => unreachable!("the page has no part {other}"),
    })
}

fn reason(report: &Report) -> String {
    match &report.reason {
        Some(reason) => reason.clone(),
        None if report.operations == 0 => "There is not a single operation in it.".to_owned(),
        None => {
            "Every answer is explained: each operation has an instant of its own, between its invocation and \
                 its return, at which it took effect."
                .to_owned()
        }
    }
}

/// Everything that the script needs, as JSON without a `<`.
fn history(report: &Report, columns: &Columns) -> String {
    let core = report.core.iter().zip(&columns.core);
    let core: Vec<_> = core.map(|(evidence, operation)| json!({ "operation": operation, "role": evidence.role, "text": evidence.to_string() })).collect();
    let history = json!({
        "verdict": report.verdict,
        "operations": report.operations,
        "unknown": report.unknown,
        "failed": report.failed,
        "partition": columns.partition,
        "states": report.states,
        "core": core,
        "columns": compressed(columns),
    });
    html::json(&history)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_cannot_end_its_element() {
        SCRIPT.iter().chain([&STYLE]).for_each(|asset| assert_eq!(html::danger(asset), None));
    }
}
