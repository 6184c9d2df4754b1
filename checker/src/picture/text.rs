//! Text, taken apart so that it compresses: a history asks the same few questions about many values.
//!
//! A text is split at its spaces, except inside quotes. A word with a quote or a digit in it is an argument; the others
//! are the text's *shape*, with a `?` for each argument. The script puts them together again (`assets/data.js`).

use std::collections::BTreeMap;

use serde::Serialize;

/// Words with smaller numbers than this came early and may come again at any time, such as keys; later ones come again
/// soon, if at all.
const EARLY_MAX: usize = 512;

/// A state may be told as one of so many arguments of its operation.
const OWN_MAX: usize = 8;

/// Texts of operations and states.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Texts {
    words: Vec<String>,
    shapes: Vec<String>,
    /// For each operation its shape, doubled, plus 1 if it may change the state.
    shape: Vec<usize>,
    /// The arguments of all operations: 0 is the name of the partition; an even number `2 + 2n` is word `n`; an odd
    /// number `1 + 2n` is the word `n` before the next new one.
    argument: Vec<usize>,
    /// For each operation in the orders, 0 if the state stays as it is, or 1 and the shape of the state.
    state: Vec<usize>,
    /// The arguments of those states: below 8 an argument of the operation, from there on a word.
    state_argument: Vec<usize>,
    #[serde(skip)]
    word_places: BTreeMap<String, usize>,
    #[serde(skip)]
    shape_places: BTreeMap<String, usize>,
    /// The words of each operation.
    #[serde(skip)]
    operations: Vec<Vec<usize>>,
}

impl Texts {
    /// The next operation.
    pub(crate) fn operation(&mut self, text: &str, changes: bool, key: &str) {
        let (shape, arguments) = split(text);
        let shape = place(&mut self.shapes, &mut self.shape_places, shape);
        self.shape.push(2 * shape + usize::from(changes));
        let mut words = Vec::new();
        for argument in arguments {
            let new = self.words.len();
            let word = place(&mut self.words, &mut self.word_places, argument.to_owned());
            words.push(word);
            self.argument.push(match word {
                _ if argument == key => 0,
                0..EARLY_MAX => 2 + 2 * word,
                _ => 1 + 2 * (new - word),
            });
        }
        self.operations.push(words);
    }

    /// The state after the next operation of an order, which is `operation`, in which the state was `before`.
    pub(crate) fn state(&mut self, text: &str, operation: usize, before: &str) {
        if text == before {
            return self.state.push(0);
        }
        let (shape, arguments) = split(text);
        self.state.push(1 + place(&mut self.shapes, &mut self.shape_places, shape));
        for argument in arguments {
            let word = place(&mut self.words, &mut self.word_places, argument.to_owned());
            let own = self.operations[operation].iter().take(OWN_MAX).position(|own| *own == word);
            self.state_argument.push(own.unwrap_or(OWN_MAX + word));
        }
    }
}

fn place(table: &mut Vec<String>, places: &mut BTreeMap<String, usize>, text: String) -> usize {
    *places.entry(text).or_insert_with_key(|text| {
        table.push(text.clone());
        table.len() - 1
    })
}

/// The shape of a text, and its arguments.
fn split(text: &str) -> (String, Vec<&str>) {
    let (mut quoted, mut escaped) = (false, false);
    let words = text.split(|character: char| {
        let inside = quoted;
        quoted ^= character == '"' && !escaped;
        escaped = inside && character == '\\' && !escaped;
        character == ' ' && !inside
    });
    let mut arguments = Vec::new();
    let is_argument = |word: &&str| word.contains(|c: char| c == '"' || c == '?' || c.is_ascii_digit());
    let shape: Vec<&str> = words
        .map(|word| {
            if !is_argument(&word) {
                return word;
            }
            arguments.push(word);
            "?"
        })
        .collect();
    (shape.join(" "), arguments)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_keep_words_together() {
        for (text, shape, arguments) in [
            (r#"put "a b" "\" c" -> ok"#, "put ? ? -> ok", vec![r#""a b""#, r#""\" c""#]),
            (r#""x\\" y"#, "? y", vec![r#""x\\""#]),
            ("why? because  not", "? because  not", vec!["why?"]),
            ("", "", vec![]),
        ] {
            assert_eq!(split(text), (shape.to_owned(), arguments), "{text}");
        }
    }
}
