//! Implements an intermediate representation of a configuration, independent of its format.
//!
//! The errors of a format may quote values (`invalid type: string "hunter2"`) and often don't name the key. So everything is
//! read into a [`Node`] first, which fails only on syntax errors. The sections are deserialized from that, with errors that
//! name the whole key and quote nothing.

use std::{
    fmt,
    iter::{self, Enumerate, Peekable},
    vec::IntoIter,
};

use serde::{
    Deserialize, Deserializer,
    de::{
        self, DeserializeSeed, IntoDeserializer, MapAccess, SeqAccess, Unexpected, Visitor,
        value::StrDeserializer,
    },
    forward_to_deserialize_any,
};
use zeroize::Zeroizing;

use super::error::ConfigError;

pub(super) enum Node {
    Null,
    Bool(bool),
    Signed(i64),
    Unsigned(u64),
    Float(f64),
    Text(Zeroizing<String>),
    List(Vec<Node>),
    Table(Table),
}

pub(super) type Table = Vec<(String, Node)>;

impl Node {
    /// Returns the type, for an error that names another one.
    pub(super) fn unexpected(&self) -> Unexpected<'_> {
        match self {
            Self::Null => Unexpected::Unit,
            Self::Bool(value) => Unexpected::Bool(*value),
            Self::Signed(value) => Unexpected::Signed(*value),
            Self::Unsigned(value) => Unexpected::Unsigned(*value),
            Self::Float(value) => Unexpected::Float(*value),
            Self::Text(text) => Unexpected::Str(text),
            Self::List(_) => Unexpected::Seq,
            Self::Table(_) => Unexpected::Map,
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a configuration")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        Node::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Signed(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Unsigned(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Float(value))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Node, E> {
        self.visit_string(value.to_owned())
    }

    fn visit_string<E>(self, value: String) -> Result<Node, E> {
        Ok(Node::Text(Zeroizing::new(value)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let list = iter::from_fn(|| entries.next_element().transpose());
        list.collect::<Result<_, _>>().map(Node::List)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let mut table = Table::new();
        while let Some((key, value)) = entries.next_entry::<String, Node>()? {
            if table.iter().any(|(known, _)| *known == key) {
                let error = ConfigError::new(key, "it is given twice: leave one of them out");
                return Err(de::Error::custom(error));
            }
            table.push((key, value));
        }
        Ok(Node::Table(table))
    }
}

impl<'de> Deserializer<'de> for Node {
    type Error = ConfigError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ConfigError> {
        match self {
            Self::Null => visitor.visit_unit(),
            Self::Bool(value) => visitor.visit_bool(value),
            Self::Signed(value) => visitor.visit_i64(value),
            Self::Unsigned(value) => visitor.visit_u64(value),
            Self::Float(value) => visitor.visit_f64(value),
            Self::Text(text) => visitor.visit_str(&text),
            Self::List(list) => visitor.visit_seq(Entries(list.into_iter().enumerate())),
            Self::Table(table) => visitor.visit_map(Pairs(table.into_iter().peekable())),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ConfigError> {
        match self {
            Self::Null => visitor.visit_none(),
            other => visitor.visit_some(other),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, ConfigError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ConfigError> {
        match self {
            Self::Text(name) => visitor.visit_enum(name.as_str().into_deserializer()),
            other => other.deserialize_any(visitor),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct identifier ignored_any
    }
}

/// The entries of a list. Adds the index to errors.
struct Entries(Enumerate<IntoIter<Node>>);

impl<'de> SeqAccess<'de> for Entries {
    type Error = ConfigError;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, ConfigError> {
        let Some((index, entry)) = self.0.next() else {
            return Ok(None);
        };
        let value = seed.deserialize(entry);
        value.map(Some).map_err(|error| error.within_entry(index))
    }
}

/// The keys and values of a table. Adds the key to errors.
struct Pairs(Peekable<IntoIter<(String, Node)>>);

impl<'de> MapAccess<'de> for Pairs {
    type Error = ConfigError;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, ConfigError> {
        let Some((key, _)) = self.0.peek() else {
            return Ok(None);
        };
        let key: StrDeserializer<'_, ConfigError> = key.as_str().into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<S::Value, ConfigError> {
        let Some((key, value)) = self.0.next() else {
            return Err(de::Error::custom("a value was requested before its key"));
        };
        seed.deserialize(value).map_err(|error| error.within(key))
    }
}
