//! What a self-contained page is made of, for every picture of this project.
//!
//! Invariants: data is never markup (JSON without a `<`, text escaped), and a policy in the page allows no script and no
//! style but the page's own and no connection at all.

use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use flate2::Compression;
use flate2::write::DeflateEncoder;
use serde::Serialize;
use sha2::{Digest, Sha256};

/// The parts of a script as one, in a scope of its own.
pub fn script(parts: &[&str]) -> String {
    format!("'use strict';\n(() => {{\n{}}})();\n", parts.concat())
}

/// The content security policy of a page with this style and this script, escaped for an attribute.
pub fn policy(style: &str, script: &str) -> String {
    escape(&format!(
        "default-src 'none'; style-src '{}'; script-src '{}'; base-uri 'none'; form-action 'none'",
        digest(style),
        digest(script)
    ))
}

fn digest(text: &str) -> String {
    format!("sha256-{}", BASE64.encode(Sha256::digest(text.as_bytes())))
}

/// JSON that cannot end the element that it is in.
pub fn json(value: &serde_json::Value) -> String {
    value.to_string().replace('<', "\\u003c")
}

/// A value as JSON, deflated, in base 64.
///
/// # Panics
///
/// If the value is not one of JSON, such as a map whose keys are no text.
pub fn compressed(value: &impl Serialize) -> String {
    let json = serde_json::to_vec(value).expect("lists, maps, strings and numbers");
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
    let bytes = encoder.write_all(&json).and_then(|()| encoder.finish());
    BASE64.encode(bytes.expect("memory takes all bytes"))
}

/// Text that is neither markup nor the end of an attribute.
pub fn escape(text: &str) -> String {
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
pub fn fill(page: &str, part: impl Fn(&str) -> String) -> String {
    let pieces = page.split("@@").enumerate();
    pieces.map(|(number, piece)| if number % 2 == 0 { piece.to_owned() } else { part(piece) }).collect()
}

/// What an asset of a page must not hold: an end of its element, or a way to make markup of data.
pub fn danger(asset: &str) -> Option<&'static str> {
    ["</", "<!--", "innerHTML", "insertAdjacent", "eval("].into_iter().find(|danger| asset.contains(danger))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_have_no_parts_and_text_is_no_markup() {
        assert_eq!(fill("a @@b@@ c", |name| format!("@@{name}@@<")), "a @@b@@< c");
        assert_eq!(escape("<a href='\"&'>"), "&lt;a href=&#39;&quot;&amp;&#39;&gt;");
        assert_eq!(json(&serde_json::json!(["</script>"])), "[\"\\u003c/script>\"]");
        assert_eq!(danger("x.innerHTML = y"), Some("innerHTML"));
        assert_eq!(danger("x.textContent = y"), None);
    }
}
