//! Lines of a file, with their numbers, and errors that say where something is wrong.

use std::io::{BufRead, BufReader, Read};

/// The longest line that is read: more than any recorder writes, and less than the machine's memory.
const LINE_BYTES_MAX: u64 = 64 << 20;

/// A history that cannot be read. It never becomes a verdict.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{line}:{column}: {message}")]
pub struct Malformed {
    /// The line, counted from 1.
    pub line: usize,
    /// The column in bytes, counted from 1.
    pub column: usize,
    /// What is wrong and what was expected.
    pub message: String,
}

impl Malformed {
    pub(crate) fn new(line: usize, column: usize, message: impl Into<String>) -> Malformed {
        Malformed { line, column: column.max(1), message: message.into() }
    }
}

/// A line and its number.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) number: usize,
    pub(crate) text: String,
    /// Whether the end of the line is there. Otherwise the file ends in it, and some of it may be missing.
    pub(crate) ended: bool,
}

impl Line {
    /// The line is wrong at `column`.
    pub(crate) fn malformed(&self, column: usize, message: impl Into<String>) -> Malformed {
        Malformed::new(self.number, column, message)
    }
}

/// A reader that is followed is asked for so much at a time.
const FOLLOWED_BYTES: usize = 1 << 16;

/// The lines of a reader that are not blank.
pub(crate) struct Lines<R> {
    reader: R,
    number: usize,
    peeked: Option<Line>,
}

impl<R: Read> Lines<BufReader<R>> {
    /// The lines of a reader that may have to wait for some of them.
    pub(crate) fn followed(reader: R) -> Self {
        Lines::new(BufReader::with_capacity(FOLLOWED_BYTES, reader))
    }

    /// Whether a line is here already, so that nobody has to wait for it.
    pub(crate) fn has_line(&self) -> bool {
        self.peeked.is_some() || memchr::memchr(b'\n', self.reader.buffer()).is_some()
    }
}

impl<R: BufRead> Lines<R> {
    pub(crate) fn new(reader: R) -> Self {
        Lines { reader, number: 0, peeked: None }
    }

    /// The next line, which `next` will return again.
    pub(crate) fn peek(&mut self) -> Result<Option<&Line>, Malformed> {
        if self.peeked.is_none() {
            self.peeked = self.next()?;
        }
        Ok(self.peeked.as_ref())
    }

    /// Everything from the next line on, and the number of that line.
    pub(crate) fn rest(&mut self) -> Result<(String, usize), Malformed> {
        let first = self.peek()?.map_or(1, |line| line.number);
        let (mut text, mut number) = (String::new(), first);
        while let Some(line) = self.next()? {
            // Blank lines were left out, but count.
            text.extend(std::iter::repeat_n('\n', line.number - number));
            number = line.number;
            text.push_str(&line.text);
        }
        Ok((text, first))
    }

    /// The next line, `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Line>, Malformed> {
        if let Some(line) = self.peeked.take() {
            return Ok(Some(line));
        }
        loop {
            let mut bytes = Vec::new();
            self.number += 1;
            let number = self.number;
            let mut limited = (&mut self.reader).take(LINE_BYTES_MAX);
            let count = limited
                .read_until(b'\n', &mut bytes)
                .map_err(|error| Malformed::new(number, 1, format!("cannot be read: {error}")))?;
            if count == 0 {
                return Ok(None);
            }
            if count as u64 == LINE_BYTES_MAX && bytes.last() != Some(&b'\n') {
                return Err(Malformed::new(
                    number,
                    1,
                    format!("the line is longer than {LINE_BYTES_MAX} bytes"),
                ));
            }
            let text = String::from_utf8(bytes).map_err(|error| {
                let column = error.utf8_error().valid_up_to() + 1;
                Malformed::new(number, column, "not UTF-8; expected text (other bytes are written as hex)")
            })?;
            let ended = text.ends_with('\n');
            let text = text.trim_end_matches(['\n', '\r']);
            if !text.trim().is_empty() {
                return Ok(Some(Line { number, text: text.to_owned(), ended }));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blank_lines_count_but_do_not_show() {
        let mut lines = Lines::new("a\n\n  \r\nb".as_bytes());
        assert_eq!(lines.peek().unwrap().unwrap().text, "a");
        let first = lines.next().unwrap().unwrap();
        assert_eq!((first.number, first.ended), (1, true));
        let last = lines.next().unwrap().unwrap();
        assert_eq!((last.number, last.text.as_str(), last.ended), (4, "b", false));
        assert!(lines.next().unwrap().is_none());
    }

    #[test]
    fn the_rest_keeps_its_line_numbers() {
        let mut lines = Lines::new("\na\n\nb\nc\n".as_bytes());
        assert_eq!(lines.rest(), Ok(("a\n\nb\nc".to_owned(), 2)));
        assert_eq!(lines.rest(), Ok((String::new(), 1)));
    }

    #[test]
    fn broken_text_is_located() {
        let error = Lines::new(&b"a\nbc\xff"[..]);
        let mut lines = error;
        lines.next().unwrap();
        let error = lines.next().unwrap_err();
        assert_eq!((error.line, error.column), (2, 3));
    }
}
