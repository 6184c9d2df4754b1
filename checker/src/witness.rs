//! Witness files: the order of operations that proves a history linearizable, as JSON Lines.
//!
//! The first line names the format, each further line is the order of one partition: numbers of operations in the order of
//! their invocations in the history, from 0, failed ones left out.

use std::io::{self, BufRead, Write};

use serde::{Deserialize, Serialize};

use crate::read::lines::{Lines, Malformed};

/// The name of the format in the first line.
pub const WITNESS_FORMAT: &str = "eraft-witness";

const VERSION: u64 = 1;

#[derive(Serialize, Deserialize)]
struct Header {
    format: String,
    version: u64,
}

/// Writes the orders.
pub(crate) fn write(orders: &[Vec<usize>], out: &mut impl Write) -> io::Result<()> {
    let header = Header { format: WITNESS_FORMAT.to_owned(), version: VERSION };
    writeln!(out, "{}", serde_json::to_string(&header)?)?;
    orders.iter().try_for_each(|order| writeln!(out, "{}", serde_json::to_string(order)?))
}

/// Reads them back.
pub(crate) fn read(reader: impl BufRead) -> Result<Vec<Vec<usize>>, Malformed> {
    let mut lines = Lines::new(reader);
    let expected = || format!("expected {{\"format\":\"{WITNESS_FORMAT}\",\"version\":{VERSION}}}");
    let first = lines.next()?.ok_or_else(|| Malformed::new(1, 1, format!("empty: {}", expected())))?;
    let header: Option<Header> = serde_json::from_str(&first.text).ok();
    if !header.is_some_and(|header| header.format == WITNESS_FORMAT && header.version == VERSION) {
        return Err(first.malformed(1, expected()));
    }
    let mut orders = Vec::new();
    while let Some(line) = lines.next()? {
        let order = serde_json::from_str(&line.text)
            .map_err(|error| line.malformed(error.column(), "expected a list of operation numbers"))?;
        orders.push(order);
    }
    Ok(orders)
}
