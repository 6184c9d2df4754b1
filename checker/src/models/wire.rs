//! The requests and answers of the models as events of the JSON Lines format.

use crate::models::kv::{Kv, KvOp, KvRet};
use crate::models::register::{Register, RegisterOp, RegisterRet};
use crate::read::event::{Event, FieldError, Wire};

const KV_REQUESTS: &str = "get, put, append, delete, cas";
const REGISTER_REQUESTS: &str = "read, write";
const CAS_REGISTER_REQUESTS: &str = "read, write, cas";

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
