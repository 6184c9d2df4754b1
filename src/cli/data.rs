//! `get`, `put`, `append`, `delete`, `cas`: one operation each.

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Value, json};

use super::client::{ClientArgs, HistoryArgs};
use super::failure::{Code, Failure, outcome};
use super::output::{Format, Output};
use super::values::{ValueSource, argument, to_hex};
use crate::client::Outcome;
use crate::history::{Operation, OperationResult};

/// What every data command has.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct DataArgs {
    /// The key.
    key: String,
    /// The key is hexadecimal.
    #[arg(long)]
    key_hex: bool,
    #[command(flatten)]
    history: HistoryArgs,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Clone, Debug, clap::Args)]
pub(super) struct Get {
    #[command(flatten)]
    data: DataArgs,
    /// Print the value as hexadecimal.
    #[arg(long)]
    hex: bool,
}

#[derive(Clone, Debug, clap::Args)]
pub(super) struct Put {
    #[command(flatten)]
    data: DataArgs,
    /// The value, or - for standard input.
    #[arg(allow_negative_numbers = true)]
    value: Option<String>,
    #[command(flatten)]
    source: ValueSource,
}

#[derive(Clone, Debug, clap::Args)]
pub(super) struct Delete {
    #[command(flatten)]
    data: DataArgs,
}

#[derive(Clone, Debug, clap::Args)]
pub(super) struct Cas {
    #[command(flatten)]
    data: DataArgs,
    /// OLD, what the key must hold, then NEW, its new value (or - for standard input); with --absent only NEW, with
    /// --file only OLD.
    #[arg(value_name = "VALUE", allow_negative_numbers = true, num_args = 0..=2)]
    values: Vec<String>,
    /// The key must not exist.
    #[arg(long)]
    absent: bool,
    #[command(flatten)]
    source: ValueSource,
}

/// Bytes in JSON: a string if they are one, else `{"hex":"ff00"}`, as in histories.
pub(super) struct Text<'a>(pub &'a [u8]);

impl Serialize for Text<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => serializer.collect_map([("hex", to_hex(self.0))]),
        }
    }
}

impl DataArgs {
    fn key(&self) -> Result<Bytes, Failure> {
        argument("KEY", &self.key, self.key_hex)
    }

    /// Runs one operation and records it.
    async fn run(&self, operation: Operation) -> Result<OperationResult, Failure> {
        let recorder = self.history.recorder()?;
        let client = self.client.client(recorder.clone())?;
        let what = format!("{} {}", operation.name(), shown(operation.key()));
        let answer = client.execute(operation).await;
        if !matches!(answer, Outcome::Unknown(_)) {
            client.close().await; // a loop of one-shot commands must not fill the servers' table of sessions
        }
        let result = outcome(&what, answer, "read the key");
        self.history.finish(recorder.as_deref())?;
        result
    }
}

fn shown(key: &[u8]) -> String {
    format!("\"{}\"", key.escape_ascii())
}

fn unexpected(result: &OperationResult) -> Failure {
    Failure::new(Code::Internal, format!("an answer to another question: {result:?}"))
}

fn print(output: Output, json: &Value, plain: &str) -> Result<(), Failure> {
    if output.is_json() { output.json(json) } else { output.line(plain) }
}

impl Get {
    pub(super) async fn run(self, output: Output) -> Result<(), Failure> {
        let key = self.data.key()?;
        let value = match self.data.run(Operation::Get { key: key.clone() }).await? {
            OperationResult::Value(value) => value,
            other => return Err(unexpected(&other)),
        };
        if output.is_json() {
            let text = value.as_deref().map(|value| match self.hex {
                true => json!({ "hex": to_hex(value) }),
                false => json!(Text(value)),
            });
            output.json(&json!({ "key": Text(&key), "found": value.is_some(), "value": text }))?;
        }
        let Some(value) = value else {
            return Err(Failure::new(Code::Refused, format!("get {}: there is no such key", shown(&key))));
        };
        match output.format {
            Format::Json => Ok(()),
            _ if self.hex => output.line(&to_hex(&value)),
            // Into a pipe or a file, exactly the bytes of the value.
            _ if !output.terminal => output.bytes(&value),
            _ => output.bytes(&[&value[..], b"\n"].concat()),
        }
    }
}

impl Put {
    pub(super) async fn put(self, output: Output) -> Result<(), Failure> {
        self.run(output, |key, value| Operation::Put { key, value }).await
    }

    pub(super) async fn append(self, output: Output) -> Result<(), Failure> {
        self.run(output, |key, value| Operation::Append { key, value }).await
    }

    async fn run(
        self,
        output: Output,
        operation: impl FnOnce(Bytes, Bytes) -> Operation,
    ) -> Result<(), Failure> {
        let key = self.data.key()?;
        let value = self.source.read(self.value.as_deref())?;
        match self.data.run(operation(key.clone(), value)).await? {
            OperationResult::Done => print(output, &json!({ "key": Text(&key), "done": true }), "OK"),
            other => Err(unexpected(&other)),
        }
    }
}

impl Delete {
    pub(super) async fn run(self, output: Output) -> Result<(), Failure> {
        let key = self.data.key()?;
        let deleted = match self.data.run(Operation::Delete { key: key.clone() }).await? {
            OperationResult::Deleted(deleted) => deleted,
            other => return Err(unexpected(&other)),
        };
        if deleted || output.is_json() {
            print(output, &json!({ "key": Text(&key), "deleted": deleted }), "OK")?;
        }
        if deleted {
            return Ok(());
        }
        Err(Failure::new(Code::Refused, format!("delete {}: there is no such key", shown(&key))))
    }
}

impl Cas {
    pub(super) async fn run(self, output: Output) -> Result<(), Failure> {
        let key = self.data.key()?;
        let mut values = self.values.iter().map(String::as_str);
        let expected = match self.absent {
            true => None,
            false => {
                let old = values.next().ok_or_else(|| {
                    Failure::usage("no OLD: give what the key must hold, or --absent if it must not exist")
                })?;
                Some(argument("OLD", old, self.source.hex)?)
            }
        };
        let value = self.source.read(values.next())?;
        if values.next().is_some() {
            return Err(Failure::usage("too many values: --absent takes only the NEW one"));
        }
        let must = if self.absent { "it exists" } else { "it does not hold OLD" };
        let operation = Operation::Cas { key: key.clone(), expected, value };
        let swapped = match self.data.run(operation).await? {
            OperationResult::Swapped(swapped) => swapped,
            other => return Err(unexpected(&other)),
        };
        if swapped || output.is_json() {
            print(output, &json!({ "key": Text(&key), "swapped": swapped }), "OK")?;
        }
        if swapped {
            return Ok(());
        }
        Err(Failure::new(Code::Refused, format!("cas {}: not changed: {must}", shown(&key))))
    }
}
