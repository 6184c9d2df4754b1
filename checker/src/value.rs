//! A key or a value: any bytes, cheap to clone.
//!
//! In JSON a value that is UTF-8 is a string, any other is `{"hex":"ff00"}`. Both forms are read for every value, so
//! `"a"` and `{"hex":"61"}` are equal; only one form is ever written.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use serde::de::{self, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Bytes shown of a value in a message; the rest is counted, not printed.
const SHOWN_BYTES_MAX: usize = 64;

/// Elements shown of a list in a message: the last ones, which differ.
const SHOWN_ELEMENTS_MAX: usize = 8;

/// A list for a message; if it is long, its end.
pub(crate) fn shown_list<T: fmt::Display>(elements: impl ExactSizeIterator<Item = T>) -> String {
    let left_out = elements.len().saturating_sub(SHOWN_ELEMENTS_MAX);
    let more = (left_out > 0).then(|| format!("… {left_out} more"));
    let shown = elements.skip(left_out).map(|element| element.to_string());
    format!("[{}]", more.into_iter().chain(shown).collect::<Vec<_>>().join(", "))
}

/// As many bytes as make a value 16 bytes large, so that one is read or cloned without a look at other memory. Most keys
/// and values of recorded histories are not longer.
const INLINE_BYTES_MAX: usize = 14;

/// A key or a value of a history.
///
/// Invariant: what fits is inline, and the bytes behind its length are 0; so equal values are stored in the same way.
#[derive(Clone)]
pub struct Value(Stored);

#[derive(Clone)]
enum Stored {
    Inline {
        length: u8,
        bytes: [u8; INLINE_BYTES_MAX],
    },
    /// In a box of its own, because a reference to a slice would be 16 bytes by itself.
    Shared(Arc<Box<[u8]>>),
}

impl Value {
    /// The value with these bytes.
    pub fn new(bytes: &[u8]) -> Value {
        if bytes.len() > INLINE_BYTES_MAX {
            return Value(Stored::Shared(Arc::new(bytes.into())));
        }
        let mut inline = [0; INLINE_BYTES_MAX];
        inline[..bytes.len()].copy_from_slice(bytes);
        Value(Stored::Inline { length: bytes.len() as u8, bytes: inline })
    }

    /// The bytes.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Stored::Inline { length, bytes } => &bytes[..usize::from(*length)],
            Stored::Shared(bytes) => bytes,
        }
    }

    /// This value with `tail` after it.
    pub fn concat(&self, tail: &Value) -> Value {
        let bytes = [self.as_bytes(), tail.as_bytes()].concat();
        if bytes.len() > INLINE_BYTES_MAX {
            return Value(Stored::Shared(Arc::new(bytes.into())));
        }
        Value::new(&bytes)
    }
}

/// The first and the last eight bytes: as two numbers they are compared and hashed in fewer steps than byte by byte.
#[inline]
fn halves(bytes: &[u8; INLINE_BYTES_MAX]) -> (u64, u64) {
    let [first @ .., _, _, _, _, _, _] = *bytes;
    let [_, _, _, _, _, _, last @ ..] = *bytes;
    (u64::from_le_bytes(first), u64::from_le_bytes(last))
}

impl PartialEq for Value {
    #[inline]
    fn eq(&self, other: &Value) -> bool {
        match (&self.0, &other.0) {
            (
                Stored::Inline { length, bytes },
                Stored::Inline { length: other_length, bytes: other_bytes },
            ) => length == other_length && halves(bytes) == halves(other_bytes),
            (Stored::Shared(bytes), Stored::Shared(other)) => Arc::ptr_eq(bytes, other) || bytes == other,
            _ => false,
        }
    }
}

impl Eq for Value {}

impl PartialOrd for Value {
    fn partial_cmp(&self, other: &Value) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Value {
    fn cmp(&self, other: &Value) -> Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

/// What is inline is hashed as two numbers, which takes less than going over its bytes.
impl Hash for Value {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        match &self.0 {
            Stored::Inline { length, bytes } => {
                let (first, last) = halves(bytes);
                state.write_u64(first);
                // Two of the last bytes are among the first ones as well; the length takes their place.
                state.write_u64(last ^ u64::from(*length));
            }
            Stored::Shared(bytes) => bytes.hash(state),
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::new(text.as_bytes())
    }
}

/// Prints the JSON form, cut if it is long.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.as_bytes();
        let mut shown = bytes.len().min(SHOWN_BYTES_MAX);
        match std::str::from_utf8(bytes) {
            Ok(text) => {
                while !text.is_char_boundary(shown) {
                    shown -= 1;
                }
                write!(f, "{:?}", &text[..shown])?;
            }
            Err(_) => write!(f, "hex {}", to_hex(&bytes[..shown]))?,
        }
        if shown < bytes.len() { write!(f, "… ({} bytes)", bytes.len()) } else { Ok(()) }
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(self.as_bytes()) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("hex", &to_hex(self.as_bytes()))?;
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or {\"hex\":\"…\"}")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Value, E> {
        Ok(Value::from(text))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let Some((name, digits)) = map.next_entry::<String, String>()? else {
            return Err(de::Error::custom("an empty object, expected a string or {\"hex\":\"…\"}"));
        };
        if name != "hex" {
            return Err(de::Error::unknown_field(&name, &["hex"]));
        }
        let value = from_hex(&digits)
            .ok_or_else(|| de::Error::custom("hex must be an even number of digits 0-9, a-f"))?;
        match map.next_key::<String>()? {
            Some(more) => Err(de::Error::unknown_field(&more, &[])),
            None => Ok(value),
        }
    }
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(digits: &str) -> Option<Value> {
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    let digit = |byte: u8| (byte as char).to_digit(16).map(|digit| digit as u8);
    let bytes: Option<Vec<u8>> =
        pairs.iter().map(|&[high, low]| Some(digit(high)? << 4 | digit(low)?)).collect();
    bytes.map(|bytes| Value::new(&bytes))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::hash::BuildHasher;

    use rustc_hash::FxBuildHasher;

    use super::*;

    #[test]
    fn text_and_hex_are_two_spellings_of_one_value() {
        let text: Value = serde_json::from_str("\"a\"").unwrap();
        let hex: Value = serde_json::from_str("{\"hex\":\"61\"}").unwrap();
        assert_eq!(text, hex);
        assert_eq!(serde_json::to_string(&hex).unwrap(), "\"a\"");
        assert_eq!(serde_json::to_string(&Value::new(&[0xff, 0])).unwrap(), "{\"hex\":\"ff00\"}");
    }

    #[test]
    fn short_and_long_values_compare_as_their_bytes_do() {
        assert_eq!((size_of::<Value>(), size_of::<Option<Value>>()), (16, 16));
        let bytes: Vec<u8> = (0..=2 * INLINE_BYTES_MAX as u8).map(|byte| byte / 3).collect();
        let slices = (0..bytes.len()).flat_map(|from| [&bytes[from..], &bytes[..from]]);
        let mut slices: Vec<&[u8]> = slices.chain([&b"a"[..], b"a\0", b"\0"]).collect();
        slices.sort_unstable();
        slices.dedup();
        let hashes = slices.iter().map(|bytes| FxBuildHasher.hash_one(Value::new(bytes)));
        assert_eq!(
            hashes.collect::<HashSet<u64>>().len(),
            slices.len(),
            "no two of so few have the same hash"
        );
        for one in &slices {
            let value = Value::new(one);
            assert_eq!(value.as_bytes(), *one);
            assert_eq!(FxBuildHasher.hash_one(&value), FxBuildHasher.hash_one(Value::new(one)));
            for other in &slices {
                let other_value = Value::new(other);
                assert_eq!(value.cmp(&other_value), one.cmp(other), "{one:?} {other:?}");
                assert_eq!(value == other_value, one == other, "{one:?} {other:?}");
                assert_eq!(value.concat(&other_value).as_bytes(), [*one, other].concat());
            }
        }
    }

    #[test]
    fn wrong_spellings_are_refused() {
        for wrong in
            ["1", "true", "{}", "{\"hex\":\"f\"}", "{\"hex\":\"zz\"}", "{\"hex\":\"00\",\"b\":1}", "[]"]
        {
            assert!(serde_json::from_str::<Value>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn of_long_lists_the_end_is_shown() {
        assert_eq!(shown_list([1, 2].iter()), "[1, 2]");
        let long: Vec<usize> = (0..100).collect();
        assert_eq!(shown_list(long.iter()), "[… 92 more, 92, 93, 94, 95, 96, 97, 98, 99]");
    }

    #[test]
    fn long_values_are_cut_at_a_character() {
        let shown = Value::from("ä".repeat(100).as_str()).to_string();
        assert!(shown.ends_with("… (200 bytes)"), "{shown}");
    }
}
