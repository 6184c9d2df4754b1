//! `scan`: keys in order, page by page.

use bytes::Bytes;
use serde_json::json;

use super::client::ClientArgs;
use super::data::Text;
use super::failure::{Failure, outcome};
use super::output::Output;
use super::values::{argument, to_hex};

/// Pairs that are asked for at a time.
const PAGE_PAIRS_MAX: u64 = 256;

#[derive(Clone, Debug, clap::Args)]
pub(super) struct Scan {
    /// Only keys that begin with this.
    #[arg(long, value_name = "TEXT", default_value = "")]
    prefix: String,
    /// The prefix is hexadecimal.
    #[arg(long)]
    key_hex: bool,
    /// At most so many.
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Print keys and values as hexadecimal.
    #[arg(long)]
    hex: bool,
    #[command(flatten)]
    client: ClientArgs,
}

impl Scan {
    pub(super) async fn run(self, output: Output) -> Result<(), Failure> {
        let prefix = argument("--prefix", &self.prefix, self.key_hex)?;
        let client = self.client.client(None)?;
        let (mut after, mut left) = (None, self.limit.unwrap_or(u64::MAX));
        while left > 0 {
            let pairs_max = usize::try_from(left.min(PAGE_PAIRS_MAX)).unwrap_or(usize::MAX);
            let page = client.scan(prefix.clone(), after.take(), pairs_max).await;
            let page = outcome("scan", page, "scan again")?;
            let lines: String = page.pairs.iter().map(|(key, value)| self.line(key, value, output)).collect();
            output.bytes(lines.as_bytes())?;
            left -= page.pairs.len() as u64;
            after = page.pairs.into_iter().next_back().map(|(key, _)| key);
            if !page.more || after.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn line(&self, key: &Bytes, value: &Bytes, output: Output) -> String {
        match (output.is_json(), self.hex) {
            (true, false) => format!("{}\n", json!({ "key": Text(key), "value": Text(value) })),
            (true, true) => {
                format!("{}\n", json!({ "key": { "hex": to_hex(key) }, "value": { "hex": to_hex(value) } }))
            }
            (false, true) => format!("{}\t{}\n", to_hex(key), to_hex(value)),
            (false, false) => format!("{}\t{}\n", on_a_line(key), on_a_line(value)),
        }
    }
}

/// Text as it is; what would break the line, or is no text, in escapes.
fn on_a_line(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains(|c: char| c.is_control()) => text.to_owned(),
        _ => bytes.escape_ascii().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_one_line_whatever_is_in_it() {
        assert_eq!(on_a_line("größe".as_bytes()), "größe");
        assert_eq!(on_a_line(b"a\tb\n"), "a\\tb\\n");
        assert_eq!(on_a_line(b"\xff"), "\\xff");
    }
}
