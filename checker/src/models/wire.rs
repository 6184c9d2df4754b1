//! The requests and answers of the models as events of the JSON Lines format.

use crate::models::controller::{Controller, ControllerOp, ControllerRet};
use crate::models::counter::{Counter, CounterOp};
use crate::models::kv::{Kv, KvOp, KvRet};
use crate::models::list::{ListAppend, ListOp};
use crate::models::register::{Register, RegisterOp, RegisterRet};
use crate::read::event::{Event, FieldError, Wire};
use crate::value::Value;

const KV_REQUESTS: &str = "get, put, append, delete, cas";
const REGISTER_REQUESTS: &str = "read, write";
const CAS_REGISTER_REQUESTS: &str = "read, write, cas";
const COUNTER_REQUESTS: &str = "add, read";
const LIST_REQUESTS: &str = "append, read";
const CONTROLLER_REQUESTS: &str = "join, leave, move, query";

impl Wire for Kv {
    fn decode_op(&self, event: &Event) -> Result<KvOp, FieldError> {
        let request = event.request()?;
        let op = match request {
            "get" => {
                event.allow(&["value"])?;
                event.echoes("value", &event.value, None)?;
                KvOp::Get { key: event.key()? }
            }
            "put" | "append" => {
                event.allow(&["value"])?;
                let (key, value) = (event.key()?, event.value()?);
                if request == "put" { KvOp::Put { key, value } } else { KvOp::Append { key, value } }
            }
            "delete" => {
                event.allow(&[])?;
                KvOp::Delete { key: event.key()? }
            }
            "cas" => {
                event.allow(&["value", "expected"])?;
                KvOp::Cas { key: event.key()?, expected: event.expected()?, new: event.value()? }
            }
            _ => return Err(event.unknown_request(KV_REQUESTS)),
        };
        Ok(op)
    }

    fn decode_ret(&self, op: &KvOp, event: &Event) -> Result<KvRet, FieldError> {
        match op {
            KvOp::Get { .. } => {
                event.allow(&["value"])?;
                event.value_read().map(KvRet::Value)
            }
            KvOp::Put { value, .. } | KvOp::Append { value, .. } => {
                event.allow(&["value"])?;
                event.echoes("value", &event.value, Some(value))?;
                Ok(KvRet::Done)
            }
            KvOp::Delete { .. } => {
                event.allow(&["deleted"])?;
                Ok(event.deleted.map_or(KvRet::Done, KvRet::Deleted))
            }
            KvOp::Cas { expected, new, .. } => {
                event.allow(&["value", "expected", "swapped"])?;
                event.echoes("value", &event.value, Some(new))?;
                event.echoes("expected", &event.expected, expected.as_ref())?;
                event.swapped().map(KvRet::Swapped)
            }
        }
    }

    fn encode_op(&self, op: &KvOp, event: &mut Event) {
        let request = match op {
            KvOp::Get { .. } => "get",
            KvOp::Put { .. } => "put",
            KvOp::Append { .. } => "append",
            KvOp::Delete { .. } => "delete",
            KvOp::Cas { .. } => "cas",
        };
        event.f = Some(request.to_owned());
        event.key = Some(op.key().clone());
        match op {
            KvOp::Get { .. } | KvOp::Delete { .. } => {}
            KvOp::Put { value, .. } | KvOp::Append { value, .. } => event.value = Some(Some(value.clone())),
            KvOp::Cas { expected, new, .. } => {
                event.expected = Some(expected.clone());
                event.value = Some(Some(new.clone()));
            }
        }
    }

    fn encode_ret(&self, ret: &KvRet, event: &mut Event) {
        match ret {
            KvRet::Done => {}
            KvRet::Value(value) => event.value = Some(value.clone()),
            KvRet::Deleted(deleted) => event.deleted = Some(*deleted),
            KvRet::Swapped(swapped) => event.swapped = Some(*swapped),
        }
    }
}

impl Wire for Register {
    fn decode_op(&self, event: &Event) -> Result<RegisterOp, FieldError> {
        let key = event.key.clone();
        match event.request()? {
            "read" => {
                event.allow(&["value"])?;
                event.echoes("value", &event.value, None)?;
                Ok(RegisterOp::Read { key })
            }
            "write" => {
                event.allow(&["value"])?;
                Ok(RegisterOp::Write { key, value: event.value()? })
            }
            "cas" if self.has_cas() => {
                event.allow(&["value", "expected"])?;
                Ok(RegisterOp::Cas { key, expected: event.expected()?, new: event.value()? })
            }
            _ if self.has_cas() => Err(event.unknown_request(CAS_REGISTER_REQUESTS)),
            _ => Err(event.unknown_request(REGISTER_REQUESTS)),
        }
    }

    fn decode_ret(&self, op: &RegisterOp, event: &Event) -> Result<RegisterRet, FieldError> {
        match op {
            RegisterOp::Read { .. } => {
                event.allow(&["value"])?;
                event.value_read().map(RegisterRet::Value)
            }
            RegisterOp::Write { value, .. } => {
                event.allow(&["value"])?;
                event.echoes("value", &event.value, Some(value))?;
                Ok(RegisterRet::Done)
            }
            RegisterOp::Cas { expected, new, .. } => {
                event.allow(&["value", "expected", "swapped"])?;
                event.echoes("value", &event.value, Some(new))?;
                event.echoes("expected", &event.expected, expected.as_ref())?;
                event.swapped().map(RegisterRet::Swapped)
            }
        }
    }

    fn encode_op(&self, op: &RegisterOp, event: &mut Event) {
        event.key = op.key().cloned();
        let request = match op {
            RegisterOp::Read { .. } => "read",
            RegisterOp::Write { value, .. } => {
                event.value = Some(Some(value.clone()));
                "write"
            }
            RegisterOp::Cas { expected, new, .. } => {
                event.expected = Some(expected.clone());
                event.value = Some(Some(new.clone()));
                "cas"
            }
        };
        event.f = Some(request.to_owned());
    }

    fn encode_ret(&self, ret: &RegisterRet, event: &mut Event) {
        match ret {
            RegisterRet::Done => {}
            RegisterRet::Value(value) => event.value = Some(value.clone()),
            RegisterRet::Swapped(swapped) => event.swapped = Some(*swapped),
        }
    }
}

impl Wire for Counter {
    fn decode_op(&self, event: &Event) -> Result<CounterOp, FieldError> {
        without_key(event)?;
        match event.request()? {
            "add" => {
                event.allow(&["amount"])?;
                event.given("amount", &event.amount).map(CounterOp::Add)
            }
            "read" => event.allow(&[]).map(|()| CounterOp::Read),
            _ => Err(event.unknown_request(COUNTER_REQUESTS)),
        }
    }

    fn decode_ret(&self, op: &CounterOp, event: &Event) -> Result<Option<i64>, FieldError> {
        match op {
            CounterOp::Add(_) => event.allow(&[]).map(|()| None),
            CounterOp::Read => {
                event.allow(&["sum"])?;
                event.given("sum", &event.sum).map(Some)
            }
        }
    }

    fn encode_op(&self, op: &CounterOp, event: &mut Event) {
        let request = match op {
            CounterOp::Add(amount) => {
                event.amount = Some(*amount);
                "add"
            }
            CounterOp::Read => "read",
        };
        event.f = Some(request.to_owned());
    }

    fn encode_ret(&self, ret: &Option<i64>, event: &mut Event) {
        event.sum = *ret;
    }
}

impl Wire for ListAppend {
    fn decode_op(&self, event: &Event) -> Result<ListOp, FieldError> {
        match event.request()? {
            "append" => {
                event.allow(&["value"])?;
                Ok(ListOp::Append { key: event.key()?, element: event.value()? })
            }
            "read" => {
                event.allow(&[])?;
                Ok(ListOp::Read { key: event.key()? })
            }
            _ => Err(event.unknown_request(LIST_REQUESTS)),
        }
    }

    fn decode_ret(&self, op: &ListOp, event: &Event) -> Result<Option<Vec<Value>>, FieldError> {
        match op {
            ListOp::Append { element, .. } => {
                event.allow(&["value"])?;
                event.echoes("value", &event.value, Some(element))?;
                Ok(None)
            }
            ListOp::Read { .. } => {
                event.allow(&["list"])?;
                event.given("list", &event.list).map(Some)
            }
        }
    }

    fn encode_op(&self, op: &ListOp, event: &mut Event) {
        let (request, key) = match op {
            ListOp::Append { key, element } => {
                event.value = Some(Some(element.clone()));
                ("append", key)
            }
            ListOp::Read { key } => ("read", key),
        };
        (event.f, event.key) = (Some(request.to_owned()), Some(key.clone()));
    }

    fn encode_ret(&self, ret: &Option<Vec<Value>>, event: &mut Event) {
        event.list.clone_from(ret);
    }
}

impl Wire for Controller {
    fn decode_op(&self, event: &Event) -> Result<ControllerOp, FieldError> {
        without_key(event)?;
        let request = event.request()?;
        match request {
            "join" | "leave" => {
                event.allow(&["groups"])?;
                let groups = event.given("groups", &event.groups)?;
                Ok(if request == "join" { ControllerOp::Join(groups) } else { ControllerOp::Leave(groups) })
            }
            "move" => {
                event.allow(&["shard", "group"])?;
                let shard = event.given("shard", &event.shard)?;
                Ok(ControllerOp::Move { shard, group: event.given("group", &event.group)? })
            }
            "query" => {
                event.allow(&["number"])?;
                Ok(ControllerOp::Query(event.number))
            }
            _ => Err(event.unknown_request(CONTROLLER_REQUESTS)),
        }
    }

    fn decode_ret(&self, op: &ControllerOp, event: &Event) -> Result<ControllerRet, FieldError> {
        if let ControllerOp::Query(_) = op {
            event.allow(&["config"])?;
            return event.given("config", &event.config).map(ControllerRet::Config);
        }
        event.allow(&["refused"])?;
        Ok(if event.refused == Some(true) { ControllerRet::Refused } else { ControllerRet::Done })
    }

    fn encode_op(&self, op: &ControllerOp, event: &mut Event) {
        let request = match op {
            ControllerOp::Join(groups) => {
                event.groups = Some(groups.clone());
                "join"
            }
            ControllerOp::Leave(groups) => {
                event.groups = Some(groups.clone());
                "leave"
            }
            ControllerOp::Move { shard, group } => {
                (event.shard, event.group) = (Some(*shard), Some(*group));
                "move"
            }
            ControllerOp::Query(number) => {
                event.number = *number;
                "query"
            }
        };
        event.f = Some(request.to_owned());
    }

    fn encode_ret(&self, ret: &ControllerRet, event: &mut Event) {
        match ret {
            ControllerRet::Done => {}
            ControllerRet::Refused => event.refused = Some(true),
            ControllerRet::Config(config) => event.config = Some(config.clone()),
        }
    }
}

/// There is one object, so nothing has a key.
fn without_key(event: &Event) -> Result<(), FieldError> {
    match event.key {
        Some(_) => Err(FieldError::new("key", "there is one object, without a key")),
        None => Ok(()),
    }
}
