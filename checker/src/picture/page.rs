//! The page around the history.

use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use flate2::Compression;
use flate2::write::DeflateEncoder;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::picture::data::Columns;
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
    let script = format!("'use strict';\n(() => {{\n{}}})();\n", SCRIPT.concat());
    let policy = format!(
        "default-src 'none'; style-src '{}'; script-src '{}'; base-uri 'none'; form-action 'none'",
        digest(STYLE),
        digest(&script)
    );
    let heading = match report.verdict {
        Verdict::Linearizable => "Linearizable",
        Verdict::Violation => "Not linearizable",
        Verdict::Undecided => "Undecided",
    };
    fill(PAGE, |name| match name {
        "policy" => escape(&policy),
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
    history.to_string().replace('<', "\\u003c")
}

fn compressed(columns: &Columns) -> String {
    let json = serde_json::to_vec(columns).expect("columns of strings and numbers");
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
    let bytes = encoder.write_all(&json).and_then(|()| encoder.finish());
    BASE64.encode(bytes.expect("memory takes all bytes"))
}

fn digest(text: &str) -> String {
    format!("sha256-{}", BASE64.encode(Sha256::digest(text.as_bytes())))
}

/// Text that is neither markup nor the end of an attribute.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            _ => escaped.push(character),
        }
    }
    escaped
}

/// Puts the parts in the places of `@@name@@`, in one pass, so that no part can have places of its own.
fn fill(page: &str, part: impl Fn(&str) -> String) -> String {
    let pieces = page.split("@@").enumerate();
    pieces.map(|(number, piece)| if number % 2 == 0 { piece.to_owned() } else { part(piece) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_have_no_parts() {
        assert_eq!(fill("a @@b@@ c", |name| format!("@@{name}@@<")), "a @@b@@< c");
        assert_eq!(escape("<a href='\"&'>"), "&lt;a href=&#39;&quot;&amp;&#39;&gt;");
    }

    #[test]
    fn the_script_cannot_end_its_element() {
        for text in SCRIPT.iter().chain([&STYLE]) {
            assert!(!text.contains("</") && !text.contains("<!--"), "an end tag in an asset");
            assert!(
                !text.contains("innerHTML") && !text.contains("insertAdjacent") && !text.contains("eval(")
            );
        }
    }
}
