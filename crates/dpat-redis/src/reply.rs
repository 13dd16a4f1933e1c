//! Reads what a script returns.

use redis::Value;

use crate::error::EngineError;

/// The parts of an answer, read one after the other.
pub(crate) struct Reply {
    what: &'static str,
    parts: std::vec::IntoIter<Value>,
}

impl Reply {
    pub(crate) fn new(what: &'static str, value: Value) -> Result<Self, EngineError> {
        match value {
            Value::Array(parts) => Ok(Self {
                what,
                parts: parts.into_iter(),
            }),
            one @ Value::Int(_) => Ok(Self {
                what,
                parts: vec![one].into_iter(),
            }),
            _ => Err(EngineError::unreadable(what)),
        }
    }

    /// Whether everything was read.
    pub(crate) fn is_empty(&self) -> bool {
        self.parts.len() == 0
    }

    pub(crate) fn int(&mut self) -> Result<i64, EngineError> {
        match self.parts.next() {
            Some(Value::Int(number)) => Ok(number),
            _ => Err(EngineError::unreadable(self.what)),
        }
    }

    pub(crate) fn number(&mut self) -> Result<u64, EngineError> {
        let number = self.int()?;
        u64::try_from(number).map_err(|_| EngineError::unreadable(self.what))
    }

    /// A number; none for one below 0.
    pub(crate) fn optional(&mut self) -> Result<Option<u64>, EngineError> {
        Ok(u64::try_from(self.int()?).ok())
    }

    pub(crate) fn small(&mut self) -> Result<u32, EngineError> {
        let number = self.int()?;
        u32::try_from(number).map_err(|_| EngineError::unreadable(self.what))
    }

    pub(crate) fn bytes(&mut self) -> Result<Vec<u8>, EngineError> {
        match self.parts.next() {
            Some(Value::BulkString(bytes)) => Ok(bytes),
            _ => Err(EngineError::unreadable(self.what)),
        }
    }

    pub(crate) fn text(&mut self) -> Result<String, EngineError> {
        String::from_utf8(self.bytes()?).map_err(|_| EngineError::unreadable(self.what))
    }
}

#[cfg(test)]
mod tests {
    use dpat_core::{Class, Classify};

    use super::*;

    #[test]
    fn an_answer_of_another_shape_is_a_typed_error() {
        let unreadable = |error: EngineError| {
            assert_eq!(error.class(), Class::Corrupt);
            assert!(
                error.to_string().starts_with("the answer to `send`"),
                "{error}"
            );
        };
        unreadable(Reply::new("send", Value::Nil).err().unwrap());
        let parts = [
            Value::Int(-1),
            Value::Int(7),
            Value::BulkString(vec![0xff]),
            Value::Nil,
        ];
        let mut reply = Reply::new("send", Value::Array(parts.to_vec())).unwrap();
        assert_eq!(reply.optional().unwrap(), None);
        assert_eq!(reply.number().unwrap(), 7);
        unreadable(reply.text().unwrap_err());
        unreadable(reply.int().unwrap_err());
        assert!(reply.is_empty());
        unreadable(reply.bytes().unwrap_err());
    }
}
