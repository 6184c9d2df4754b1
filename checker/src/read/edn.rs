//! A reader of EDN, as much of it as recorders write, with the place of every form.
//!
//! Invariants:
//! - a form that is not whole is an error with a place, never a shorter form;
//! - every [`Form`] says where it begins, so that an error about its meaning can point at it;
//! - nesting is bounded, so that no file can exhaust the stack.

use crate::read::lines::Malformed;

/// Deeper than any recorder nests.
const DEPTH_MAX: usize = 64;

/// Where a form begins, both counted from 1, the column in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

impl Place {
    pub(crate) fn malformed(self, message: impl Into<String>) -> Malformed {
        Malformed::new(self.line, self.column, message)
    }
}

/// A piece of EDN and its place.
#[derive(Clone, Debug)]
pub(crate) struct Form {
    pub(crate) place: Place,
    pub(crate) datum: Datum,
}

/// What a form is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Datum {
    Nil,
    /// A string, without its quotes and escapes.
    Text(String),
    /// Without the colon.
    Keyword(String),
    /// A number, boolean, symbol or character, as it is spelt.
    Atom(String),
    Vector(Vec<Form>),
    List(Vec<Form>),
    Set(Vec<Form>),
    /// Keys and values in turn.
    Map(Vec<Form>),
    Tagged(String, Box<Form>),
}

impl PartialEq for Form {
    /// Forms are equal wherever they stand.
    fn eq(&self, other: &Form) -> bool {
        self.datum == other.datum
    }
}

/// Reads form by form.
pub(crate) struct Reader<'a> {
    text: &'a str,
    at: usize,
    line: usize,
    line_start: usize,
    depth: usize,
}

impl<'a> Reader<'a> {
    /// A reader of `text`, which begins on `line`.
    pub(crate) fn new(text: &'a str, line: usize) -> Reader<'a> {
        Reader { text, at: 0, line, line_start: 0, depth: 0 }
    }

    pub(crate) fn place(&self) -> Place {
        Place { line: self.line, column: self.at - self.line_start + 1 }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn advance(&mut self) {
        if self.peek() == Some(b'\n') {
            self.line += 1;
            self.line_start = self.at + 1;
        }
        self.at += 1;
    }

    /// Goes to the next byte that is part of a form, or to the end.
    pub(crate) fn skip_blank(&mut self) -> Result<Option<u8>, Malformed> {
        while let Some(byte) = self.peek() {
            match byte {
                b';' => {
                    while self.peek().is_some_and(|byte| byte != b'\n') {
                        self.advance();
                    }
                }
                b'#' if self.text[self.at..].starts_with("#_") => {
                    let place = self.place();
                    self.at += 2;
                    self.descend(place)?;
                    if self.skip_blank()?.is_none() {
                        return Err(place.malformed("nothing follows #_, which leaves out the next form"));
                    }
                    self.form()?;
                    self.depth -= 1;
                }
                b',' => self.advance(),
                _ if byte.is_ascii_whitespace() => self.advance(),
                _ => return Ok(Some(byte)),
            }
        }
        Ok(None)
    }

    /// Goes over `byte` if it is next.
    pub(crate) fn accept(&mut self, byte: u8) -> bool {
        let accepted = self.peek() == Some(byte);
        if accepted {
            self.advance();
        }
        accepted
    }

    fn descend(&mut self, place: Place) -> Result<(), Malformed> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(place.malformed(format!("nested deeper than {DEPTH_MAX} levels")));
        }
        Ok(())
    }

    /// The form that is next; there must be one.
    pub(crate) fn form(&mut self) -> Result<Form, Malformed> {
        let next = self.skip_blank()?;
        let place = self.place();
        self.descend(place)?;
        let datum = match next {
            None => return Err(place.malformed("the file ends here, expected a form")),
            Some(b'"') => Datum::Text(self.text(place)?),
            Some(b'[') => Datum::Vector(self.sequence(place, b']')?),
            Some(b'(') => Datum::List(self.sequence(place, b')')?),
            Some(b'{') => {
                let forms = self.sequence(place, b'}')?;
                if !forms.len().is_multiple_of(2) {
                    return Err(place.malformed("a map with a key that has no value"));
                }
                Datum::Map(forms)
            }
            Some(b'#') => self.dispatch(place)?,
            Some(byte @ (b']' | b')' | b'}')) => {
                return Err(place.malformed(format!("unexpected {:?}, which closes nothing", byte as char)));
            }
            Some(_) => self.token(place)?,
        };
        self.depth -= 1;
        Ok(Form { place, datum })
    }

    /// The forms up to `end`; the byte that opens them is next.
    fn sequence(&mut self, opened: Place, end: u8) -> Result<Vec<Form>, Malformed> {
        self.advance();
        let mut forms = Vec::new();
        loop {
            match self.skip_blank()? {
                Some(byte) if byte == end => {
                    self.advance();
                    return Ok(forms);
                }
                Some(_) => forms.push(self.form()?),
                None => {
                    let Place { line, column } = opened;
                    let message =
                        format!("the file ends here, expected {:?} for {line}:{column}", end as char);
                    return Err(self.place().malformed(message));
                }
            }
        }
    }

    fn dispatch(&mut self, place: Place) -> Result<Datum, Malformed> {
        self.advance();
        if self.peek() == Some(b'{') {
            return Ok(Datum::Set(self.sequence(place, b'}')?));
        }
        let tag = self.word();
        if tag.is_empty() {
            return Err(place.malformed("expected a set, a tag or #_ after #"));
        }
        let tag = tag.to_owned();
        Ok(Datum::Tagged(tag, Box::new(self.form()?)))
    }

    /// The bytes up to whatever ends a token.
    fn word(&mut self) -> &'a str {
        let rest = &self.text[self.at..];
        let ends = |c: char| {
            c.is_ascii_whitespace() || matches!(c, ',' | '"' | ';' | '(' | ')' | '[' | ']' | '{' | '}')
        };
        let length = rest.find(ends).unwrap_or(rest.len());
        self.at += length;
        &rest[..length]
    }

    fn token(&mut self, place: Place) -> Result<Datum, Malformed> {
        if self.peek() == Some(b'\\') {
            // A character may be one that would end a word, such as \( or \,.
            let start = self.at;
            self.at += 1;
            let length = self.text[self.at..].chars().next().map_or(0, char::len_utf8);
            self.at += length;
            self.word();
            return Ok(Datum::Atom(self.text[start..self.at].to_owned()));
        }
        let word = self.word();
        match word {
            "nil" => Ok(Datum::Nil),
            _ => match word.strip_prefix(':') {
                Some("") => Err(place.malformed("a colon without a name")),
                Some(name) => Ok(Datum::Keyword(name.to_owned())),
                None if word.starts_with(|c: char| c.is_ascii_digit()) && !is_number(word) => {
                    Err(place.malformed(format!("{word:?} is not a number")))
                }
                None => Ok(Datum::Atom(word.to_owned())),
            },
        }
    }

    fn text(&mut self, opened: Place) -> Result<String, Malformed> {
        self.advance();
        let mut text = String::new();
        loop {
            let place = self.place();
            let Some(character) = self.text[self.at..].chars().next() else {
                return Err(opened.malformed("a string that does not end"));
            };
            match character {
                '"' => {
                    self.advance();
                    return Ok(text);
                }
                '\\' => {
                    self.advance();
                    text.push(self.escape(place)?);
                }
                '\n' => {
                    self.advance();
                    text.push('\n');
                }
                _ => {
                    self.at += character.len_utf8();
                    text.push(character);
                }
            }
        }
    }

    fn escape(&mut self, place: Place) -> Result<char, Malformed> {
        let wrong = || {
            place.malformed("unknown escape, expected \\\" \\\\ \\n \\r \\t \\b \\f or \\u and four digits")
        };
        let letter = self.text[self.at..].chars().next().ok_or_else(wrong)?;
        let character = match letter {
            '"' | '\\' => letter,
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'u' => {
                let digits = self.text.get(self.at + 1..self.at + 5).ok_or_else(wrong)?;
                let all_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
                let code = u32::from_str_radix(digits, 16).ok().filter(|_| all_hex).ok_or_else(wrong)?;
                self.at += 4;
                char::from_u32(code)
                    .ok_or_else(|| place.malformed("half of a surrogate pair, expected a character"))?
            }
            _ => return Err(wrong()),
        };
        self.at += 1;
        Ok(character)
    }
}

/// Integers, with `N`, floats, with `M`, and ratios.
fn is_number(word: &str) -> bool {
    let digits = word.trim_end_matches(['N', 'M']);
    let ratio = digits.split_once('/').is_some_and(|(over, under)| {
        [over, under].iter().all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
    });
    word.len() - digits.len() <= 1 && (ratio || digits.parse::<f64>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Form, Malformed> {
        Reader::new(text, 1).form()
    }

    fn atom(text: &str) -> Form {
        Form { place: Place { line: 0, column: 0 }, datum: Datum::Atom(text.to_owned()) }
    }

    #[test]
    fn forms() {
        for (text, datum) in [
            ("nil", Datum::Nil),
            (" ; a comment\n #_ [left out] -12N", Datum::Atom("-12N".to_owned())),
            (r#""a\"\u00e4\n""#, Datum::Text("a\"ä\n".to_owned())),
            (":a/b", Datum::Keyword("a/b".to_owned())),
            ("\\(", Datum::Atom("\\(".to_owned())),
            ("[1, true]", Datum::Vector(vec![atom("1"), atom("true")])),
            ("(1 2)", Datum::List(vec![atom("1"), atom("2")])),
            ("#{1}", Datum::Set(vec![atom("1")])),
            ("#a.B{1 2}", Datum::Tagged("a.B".to_owned(), Box::new(read("{1 2}").unwrap()))),
        ] {
            assert_eq!(read(text).map(|form| form.datum), Ok(datum), "{text}");
        }
    }

    #[test]
    fn what_is_not_whole_has_a_place() {
        let (deep, dropped) = ("[".repeat(DEPTH_MAX + 2), "#_".repeat(1_000_000));
        for (text, line, column, message) in [
            ("[1\n 2", 2, 3, "expected ']' for 1:1"),
            ("{:a 1 :b}", 1, 1, "a key that has no value"),
            ("\n  \"ab", 2, 3, "does not end"),
            ("[1 }", 1, 4, "closes nothing"),
            ("\"a\\q\"", 1, 3, "unknown escape"),
            ("\"\\ud800\"", 1, 2, "surrogate"),
            ("\"\\u+123\"", 1, 2, "unknown escape"),
            ("1x", 1, 1, "not a number"),
            ("[#_ ]", 1, 5, "closes nothing"),
            ("#_", 1, 1, "nothing follows"),
            (": a", 1, 1, "without a name"),
            (deep.as_str(), 1, DEPTH_MAX + 1, "nested deeper"),
            (dropped.as_str(), 1, 2 * DEPTH_MAX + 1, "nested deeper"),
        ] {
            let error = read(text).expect_err(text);
            assert_eq!((error.line, error.column), (line, column), "{text}: {error}");
            assert!(error.message.contains(message), "{text}: {error}");
        }
    }
}
