//! The fields of an event in the JSON Lines format, and how a model's requests and answers are made of them.

use std::collections::BTreeSet;

use serde::{Deserialize, Deserializer, Serialize};

use crate::model::Model;
use crate::models::controller::{Configuration, GroupId};
use crate::value::Value;

/// What an event says about its process's operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventType {
    /// It starts.
    Invoke,
    /// It is answered.
    Ok,
    /// It certainly was not executed.
    Fail,
    /// Its outcome is unknown.
    Info,
}

/// An event, field by field. A field that is `null` is given; one that is absent is not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// Who.
    pub process: u64,
    /// What happens.
    #[serde(rename = "type")]
    pub kind: EventType,
    /// The request, and the answer if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub f: Option<String>,
    /// What is touched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Value>,
    /// The value that is written or was read.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub value: Option<Option<Value>>,
    /// The value that a compare-and-set expects.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub expected: Option<Option<Value>>,
    /// Whether a compare-and-set found what it expected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swapped: Option<bool>,
    /// Whether a delete found something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted: Option<bool>,
    /// What is added to a counter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount: Option<i64>,
    /// What a counter has come to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sum: Option<i64>,
    /// What a list has come to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub list: Option<Vec<Value>>,
    /// The groups that join or leave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<BTreeSet<GroupId>>,
    /// The shard that is moved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<usize>,
    /// The group that it is moved to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupId>,
    /// The number of the configuration that is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u64>,
    /// The configuration that is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<Configuration>,
    /// Whether a change was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<bool>,
    /// The log index at which it took effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<u64>,
    /// Nanoseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<u64>,
    /// Why it failed, or why nobody knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<Value>>, D::Error> {
    Option::<Value>::deserialize(deserializer).map(Some)
}

/// A field that does not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// The field, as it is spelt in the file.
    pub field: &'static str,
    /// What is wrong with it.
    pub message: String,
}

impl FieldError {
    /// `field` is wrong in this way.
    pub fn new(field: &'static str, message: impl Into<String>) -> FieldError {
        FieldError { field, message: message.into() }
    }
}

/// A model whose histories can be written as JSON Lines.
pub trait Wire: Model {
    /// The request of an `invoke`.
    fn decode_op(&self, event: &Event) -> Result<Self::Op, FieldError>;

    /// The answer of an `ok`. `f` and `key` have been compared with the request's.
    fn decode_ret(&self, op: &Self::Op, event: &Event) -> Result<Self::Ret, FieldError>;

    /// Puts a request into an `invoke`.
    fn encode_op(&self, op: &Self::Op, event: &mut Event);

    /// Puts an answer into an `ok` that has the `f` of its request.
    fn encode_ret(&self, ret: &Self::Ret, event: &mut Event);
}

impl Event {
    /// An event with nothing but its type.
    pub fn new(process: u64, kind: EventType) -> Event {
        Event {
            process,
            kind,
            f: None,
            key: None,
            value: None,
            expected: None,
            swapped: None,
            deleted: None,
            amount: None,
            sum: None,
            list: None,
            groups: None,
            shard: None,
            group: None,
            number: None,
            config: None,
            refused: None,
            index: None,
            time: None,
            error: None,
        }
    }

    /// The request, which an `invoke` must name.
    pub fn request(&self) -> Result<&str, FieldError> {
        self.f.as_deref().ok_or_else(|| FieldError::new("f", "an invoke must say what is asked, as \"f\""))
    }

    /// An error about a request that the model does not know.
    pub fn unknown_request(&self, known: &str) -> FieldError {
        FieldError::new("f", format!("unknown request {:?}, expected one of {known}", self.name()))
    }

    /// The key, which must be given.
    pub fn key(&self) -> Result<Value, FieldError> {
        self.key.clone().ok_or_else(|| FieldError::new("key", format!("{} needs a \"key\"", self.name())))
    }

    /// The value, which must be given and not `null`.
    pub fn value(&self) -> Result<Value, FieldError> {
        let message = || format!("{} needs a \"value\" that is not null", self.name());
        self.value.clone().flatten().ok_or_else(|| FieldError::new("value", message()))
    }

    /// The value that was read, which must be given.
    pub fn value_read(&self) -> Result<Option<Value>, FieldError> {
        let message = || "the answer to a read needs a \"value\"; null says that there is none";
        self.value.clone().ok_or_else(|| FieldError::new("value", message()))
    }

    /// The expected value, which must be given.
    pub fn expected(&self) -> Result<Option<Value>, FieldError> {
        let message = || format!("{} needs \"expected\"; null says that there must be none", self.name());
        self.expected.clone().ok_or_else(|| FieldError::new("expected", message()))
    }

    /// Whether a compare-and-set found what it expected, which must be given.
    pub fn swapped(&self) -> Result<bool, FieldError> {
        let message = "the answer to a cas needs \"swapped\": true or false";
        self.swapped.ok_or_else(|| FieldError::new("swapped", message))
    }

    /// A field that must be given.
    pub fn given<T: Clone>(&self, field: &'static str, value: &Option<T>) -> Result<T, FieldError> {
        value.clone().ok_or_else(|| FieldError::new(field, format!("{} needs {field:?} here", self.name())))
    }

    /// Refuses all data fields but those in `allowed`.
    pub fn allow(&self, allowed: &[&str]) -> Result<(), FieldError> {
        let fields = [
            ("value", self.value.is_some()),
            ("expected", self.expected.is_some()),
            ("swapped", self.swapped.is_some()),
            ("deleted", self.deleted.is_some()),
            ("amount", self.amount.is_some()),
            ("sum", self.sum.is_some()),
            ("list", self.list.is_some()),
            ("groups", self.groups.is_some()),
            ("shard", self.shard.is_some()),
            ("group", self.group.is_some()),
            ("number", self.number.is_some()),
            ("config", self.config.is_some()),
            ("refused", self.refused.is_some()),
        ];
        match fields.into_iter().find(|(field, given)| *given && !allowed.contains(field)) {
            Some((field, _)) => Err(FieldError::new(field, format!("{} has no {field:?} here", self.name()))),
            None => Ok(()),
        }
    }

    /// A completion may repeat what was asked, but not say something else.
    pub fn echoes(
        &self,
        field: &'static str,
        given: &Option<Option<Value>>,
        asked: Option<&Value>,
    ) -> Result<(), FieldError> {
        match given {
            Some(given) if given.as_ref() != asked => {
                let asked = asked.map_or_else(|| "null".to_owned(), Value::to_string);
                Err(FieldError::new(
                    field,
                    format!("the request's {field} is {asked}; a completion may only repeat it"),
                ))
            }
            _ => Ok(()),
        }
    }

    fn name(&self) -> &str {
        self.f.as_deref().unwrap_or("this event")
    }
}
