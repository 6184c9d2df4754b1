//! Reads a scenario's TOML with every value's place, so that an error names file, line, column and key.
//!
//! A [`Section`] is told its keys when it is opened and refuses all others at once, naming the nearest known one:
//! a typo is never taken for a default.

use std::fmt;
use std::ops::{Range, RangeInclusive};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::setting::{Number, Setting};

/// Suggest a known name only if it is at least this similar (Jaro-Winkler, 0 to 1).
const SUGGESTION_SIMILARITY_MIN: f64 = 0.75;

/// What is wrong with a scenario, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScenarioError {
    /// The file, as it was named.
    pub file: String,
    /// Counted from 1.
    pub line: usize,
    /// In characters, counted from 1.
    pub column: usize,
    /// The key with its sections, `cluster.nodes`; empty for the file as a whole.
    pub key: String,
    /// What is wrong and what would be right.
    pub message: String,
}

impl fmt::Display for ScenarioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: ", self.file, self.line, self.column)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for ScenarioError {}

/// A file's name and text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source<'t> {
    pub(super) file: &'t str,
    pub(super) text: &'t str,
}

impl Source<'_> {
    /// An error about the bytes at `span`.
    pub(super) fn error(&self, span: Range<usize>, key: &str, message: impl Into<String>) -> ScenarioError {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        ScenarioError {
            file: self.file.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            key: key.to_owned(),
            message: message.into(),
        }
    }

    /// The text as a table.
    pub(super) fn parse(&self) -> Result<Spanned<DeTable<'_>>, ScenarioError> {
        DeTable::parse(self.text).map_err(|error| {
            let message = error.message().replace('\n', "; ");
            self.error(error.span().unwrap_or(0..0), "", format!("not TOML: {message}"))
        })
    }
}

/// `, did you mean …?`, if one of `known` is close to `word`.
pub(crate) fn suggestion<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> String {
    let nearest = known
        .into_iter()
        .map(|name| (strsim::jaro_winkler(word, name), name))
        .max_by(|left, right| left.0.total_cmp(&right.0));
    match nearest {
        Some((similarity, name)) if similarity >= SUGGESTION_SIMILARITY_MIN => {
            format!(", did you mean `{name}`?")
        }
        _ => String::new(),
    }
}

/// One table of the file. A table that is not there reads as empty: every key has its default.
#[derive(Clone)]
pub(super) struct Section<'t> {
    source: Source<'t>,
    path: String,
    span: Range<usize>,
    table: Option<&'t DeTable<'t>>,
}

impl<'t> Section<'t> {
    /// The file's root, which may hold `keys`.
    pub(super) fn root(
        source: Source<'t>,
        table: &'t Spanned<DeTable<'t>>,
        keys: &[&str],
    ) -> Result<Self, ScenarioError> {
        let root = Self { source, path: String::new(), span: table.span(), table: Some(table.get_ref()) };
        root.refuse_unknown(keys)
    }

    /// The key of this section and `key` in it.
    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    fn refuse_unknown(self, keys: &[&str]) -> Result<Self, ScenarioError> {
        let unknown = self
            .table
            .iter()
            .flat_map(|table| table.keys())
            .filter(|key| !keys.contains(&key.get_ref().as_ref()))
            .min_by_key(|key| key.span().start);
        let Some(key) = unknown else { return Ok(self) };
        let name = key.get_ref().as_ref();
        let mut hint = suggestion(name, keys.iter().copied());
        if hint.is_empty() {
            hint = format!("; known here: {}", keys.join(", "));
        }
        Err(self.source.error(key.span(), &self.path_of(name), format!("unknown key `{name}`{hint}")))
    }

    fn value(&self, key: &str) -> Option<&'t Spanned<DeValue<'t>>> {
        self.table.and_then(|table| table.get(key))
    }

    /// True if `key` is there.
    pub(super) fn has(&self, key: &str) -> bool {
        self.value(key).is_some()
    }

    /// An error about `key`, or about the section if the key is not there.
    pub(super) fn error(&self, key: &str, message: impl Into<String>) -> ScenarioError {
        let span = self.value(key).map_or(self.span.clone(), Spanned::span);
        self.source.error(span, &self.path_of(key), message)
    }

    fn wrong_type(&self, key: &str, value: &DeValue<'_>, expected: &str) -> ScenarioError {
        self.error(key, format!("expected {expected}, found {}", described(value)))
    }

    /// The table `key`, which may hold `keys`.
    pub(super) fn section(&self, key: &str, keys: &[&str]) -> Result<Self, ScenarioError> {
        let path = self.path_of(key);
        let Some(value) = self.value(key) else {
            return Ok(Self { source: self.source, path, span: self.span.clone(), table: None });
        };
        self.table_at(value, path, keys)
    }

    fn table_at(
        &self,
        value: &'t Spanned<DeValue<'t>>,
        path: String,
        keys: &[&str],
    ) -> Result<Self, ScenarioError> {
        let Some(table) = value.get_ref().as_table() else {
            let message = format!("expected a table, found {}", described(value.get_ref()));
            return Err(self.source.error(value.span(), &path, message));
        };
        Self { source: self.source, path, span: value.span(), table: Some(table) }.refuse_unknown(keys)
    }

    /// The tables `[[key]]`, in order.
    pub(super) fn sections(&self, key: &str, keys: &[&str]) -> Result<Vec<Self>, ScenarioError> {
        let Some(value) = self.value(key) else { return Ok(Vec::new()) };
        let Some(array) = value.get_ref().as_array() else {
            return Err(self.wrong_type(key, value.get_ref(), &format!("tables `[[{key}]]`")));
        };
        let path = self.path_of(key);
        let mut sections = Vec::new();
        for (number, value) in array.iter().enumerate() {
            sections.push(self.table_at(value, format!("{path}[{number}]"), keys)?);
        }
        Ok(sections)
    }

    /// A number, a range `[low, high]` or `{ choices = […] }`.
    pub(super) fn setting<T: Number>(
        &self,
        key: &str,
        bounds: RangeInclusive<T>,
    ) -> Result<Option<Setting<T>>, ScenarioError> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let expected = format!("{}, a range [low, high] or {{ choices = [..] }}", T::KIND);
        let one = |value: &Spanned<DeValue<'_>>| self.number(key, value, &bounds, &expected);
        let setting = match value.get_ref() {
            DeValue::Array(items) if items.len() == 2 => {
                let (low, high) = (one(&items[0])?, one(&items[1])?);
                if low > high {
                    return Err(
                        self.error(key, format!("the range starts at {low} and ends below, at {high}"))
                    );
                }
                Setting::Range(low, high)
            }
            DeValue::Array(items) => {
                let message = format!(
                    "a range has two numbers, [low, high], not {}; several alternatives are {{ choices = [..] }}",
                    items.len()
                );
                return Err(self.error(key, message));
            }
            DeValue::Table(table) => {
                let inner = Self {
                    source: self.source,
                    path: self.path_of(key),
                    span: value.span(),
                    table: Some(table),
                }
                .refuse_unknown(&["choices"])?;
                Setting::Choices(inner.choices(&bounds)?)
            }
            _ => Setting::Fixed(one(value)?),
        };
        Ok(Some(setting))
    }

    fn choices<T: Number>(&self, bounds: &RangeInclusive<T>) -> Result<Vec<T>, ScenarioError> {
        let list = self.value("choices").map(Spanned::get_ref).and_then(DeValue::as_array);
        let Some(list) = list.filter(|list| !list.is_empty()) else {
            return Err(self.error("choices", format!("expected a list of at least one {}", T::KIND)));
        };
        list.iter().map(|value| self.number("choices", value, bounds, T::KIND)).collect()
    }

    fn number<T: Number>(
        &self,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        bounds: &RangeInclusive<T>,
        expected: &str,
    ) -> Result<T, ScenarioError> {
        let fail = |message: String| self.source.error(value.span(), &self.path_of(key), message);
        let Some(number) = T::read(value.get_ref()) else {
            return Err(fail(format!("expected {expected}, found {}", described(value.get_ref()))));
        };
        if !bounds.contains(&number) {
            return Err(fail(format!("{number} is not within {} to {}", bounds.start(), bounds.end())));
        }
        Ok(number)
    }

    /// A text.
    pub(super) fn text(&self, key: &str) -> Result<Option<&'t str>, ScenarioError> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let text = value.get_ref().as_str();
        text.map(Some).ok_or_else(|| self.wrong_type(key, value.get_ref(), "a text"))
    }

    /// One of `words`.
    pub(super) fn word<T>(&self, key: &str, words: &[(&str, T)]) -> Result<Option<T>, ScenarioError>
    where
        T: Clone,
    {
        let Some(text) = self.text(key)? else { return Ok(None) };
        let known = || words.iter().map(|(word, _)| *word);
        match words.iter().find(|(word, _)| *word == text) {
            Some((_, meaning)) => Ok(Some(meaning.clone())),
            None => {
                let mut hint = suggestion(text, known());
                if hint.is_empty() {
                    hint = format!("; known: {}", known().collect::<Vec<_>>().join(", "));
                }
                Err(self.error(key, format!("unknown value `{text}`{hint}")))
            }
        }
    }

    /// True or false.
    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>, ScenarioError> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let flag = value.get_ref().as_bool();
        flag.map(Some).ok_or_else(|| self.wrong_type(key, value.get_ref(), "true or false"))
    }

    /// A list of texts; a single text is a list of one.
    pub(super) fn texts(&self, key: &str) -> Result<Option<Vec<&'t str>>, ScenarioError> {
        let Some(value) = self.value(key) else { return Ok(None) };
        if let Some(text) = value.get_ref().as_str() {
            return Ok(Some(vec![text]));
        }
        let texts = value
            .get_ref()
            .as_array()
            .and_then(|array| array.iter().map(|item| item.get_ref().as_str()).collect::<Option<Vec<_>>>());
        texts.map(Some).ok_or_else(|| self.wrong_type(key, value.get_ref(), "a text or a list of texts"))
    }
}

fn described(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("the text \"{text}\""),
        DeValue::Integer(number) => format!("the number {}", number.as_str()),
        DeValue::Float(number) => format!("the number {}", number.as_str()),
        DeValue::Boolean(flag) => format!("{flag}"),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}
