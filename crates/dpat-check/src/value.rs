//! What operations carry, whatever the format was.

use std::collections::HashMap;
use std::fmt;

/// An argument or result of an operation: the common part of EDN and JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Value {
    /// `nil` or `null`.
    #[default]
    Nil,
    /// `true` or `false`.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A string.
    Str(Box<str>),
    /// An EDN keyword (without its colon) or symbol. JSON has none.
    Name(Box<str>),
    /// A vector, list, set or array.
    List(Vec<Value>),
    /// A map or object, in the order of the text.
    Map(Vec<(Value, Value)>),
    /// A literal that no checker computes with, such as a fraction; its text.
    Other(Box<str>),
}

impl Value {
    /// Returns the text of a string, keyword or symbol.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Str(text) | Self::Name(text) => Some(text),
            _ => None,
        }
    }

    /// Returns the number, if it is one.
    #[must_use]
    pub const fn int(&self) -> Option<i64> {
        match self {
            Self::Int(number) => Some(*number),
            _ => None,
        }
    }

    /// Returns the elements, if it is a list.
    #[must_use]
    pub fn list(&self) -> Option<&[Self]> {
        match self {
            Self::List(elements) => Some(elements),
            _ => None,
        }
    }

    /// Returns the value of a field, if it is a map that has it.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Map(fields) => fields
                .iter()
                .find(|(key, _)| key.text() == Some(name))
                .map(|(_, value)| value),
            _ => None,
        }
    }

    /// Says whether it is `nil`.
    #[must_use]
    pub const fn is_nil(&self) -> bool {
        matches!(self, Self::Nil)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl From<bool> for Value {
    fn from(truth: bool) -> Self {
        Self::Bool(truth)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Str(text.into())
    }
}

impl<V: Into<Self>> From<Vec<V>> for Value {
    fn from(elements: Vec<V>) -> Self {
        Self::List(elements.into_iter().map(Into::into).collect())
    }
}

/// Prints as EDN.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nil => f.write_str("nil"),
            Self::Bool(truth) => truth.fmt(f),
            Self::Int(number) => number.fmt(f),
            Self::Str(text) => write!(f, "{text:?}"),
            Self::Name(name) => write!(f, ":{name}"),
            Self::Other(text) => f.write_str(text),
            Self::List(elements) => {
                f.write_str("[")?;
                for (index, element) in elements.iter().enumerate() {
                    if index > 0 {
                        f.write_str(" ")?;
                    }
                    element.fmt(f)?;
                }
                f.write_str("]")
            }
            Self::Map(fields) => {
                f.write_str("{")?;
                for (index, (key, value)) in fields.iter().enumerate() {
                    let comma = if index > 0 { ", " } else { "" };
                    write!(f, "{comma}{key} {value}")?;
                }
                f.write_str("}")
            }
        }
    }
}

/// Gives equal values equal small numbers.
#[derive(Debug, Default)]
pub(crate) struct Ids<'a> {
    ids: HashMap<&'a Value, u32>,
}

impl<'a> Ids<'a> {
    pub(crate) fn id(&mut self, value: &'a Value) -> u32 {
        let next = u32::try_from(self.ids.len()).expect("a history has fewer than 2^32 events");
        *self.ids.entry(value).or_insert(next)
    }
}

#[cfg(feature = "serde")]
mod serde_impls {
    use std::fmt;

    use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
    use serde::ser::{Serialize, SerializeMap, Serializer};

    use super::Value;

    impl Serialize for Value {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            match self {
                Self::Nil => serializer.serialize_unit(),
                Self::Bool(truth) => serializer.serialize_bool(*truth),
                Self::Int(number) => serializer.serialize_i64(*number),
                Self::Str(text) | Self::Name(text) | Self::Other(text) => {
                    serializer.serialize_str(text)
                }
                Self::List(elements) => serializer.collect_seq(elements),
                Self::Map(fields) => {
                    let mut map = serializer.serialize_map(Some(fields.len()))?;
                    for (key, value) in fields {
                        match key.text() {
                            Some(text) => map.serialize_entry(text, value)?,
                            None => map.serialize_entry(&key.to_string(), value)?,
                        }
                    }
                    map.end()
                }
            }
        }
    }

    impl<'de> Deserialize<'de> for Value {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Any;

            impl<'de> Visitor<'de> for Any {
                type Value = Value;

                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("a value")
                }
                fn visit_unit<E>(self) -> Result<Value, E> {
                    Ok(Value::Nil)
                }
                fn visit_none<E>(self) -> Result<Value, E> {
                    Ok(Value::Nil)
                }
                fn visit_bool<E>(self, truth: bool) -> Result<Value, E> {
                    Ok(Value::Bool(truth))
                }
                fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
                    Ok(Value::Int(number))
                }
                fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
                    Ok(i64::try_from(number)
                        .map_or_else(|_| Value::Other(number.to_string().into()), Value::Int))
                }
                fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
                    Ok(Value::Other(number.to_string().into()))
                }
                fn visit_str<E>(self, text: &str) -> Result<Value, E> {
                    Ok(Value::Str(text.into()))
                }
                fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
                    let mut elements = Vec::new();
                    while let Some(element) = seq.next_element()? {
                        elements.push(element);
                    }
                    Ok(Value::List(elements))
                }
                fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
                    let mut fields = Vec::new();
                    while let Some((key, value)) = map.next_entry::<String, Value>()? {
                        fields.push((Value::Str(key.into()), value));
                    }
                    Ok(Value::Map(fields))
                }
            }

            deserializer.deserialize_any(Any)
        }
    }
}
