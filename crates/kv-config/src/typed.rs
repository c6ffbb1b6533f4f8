//! Settings as a type: what serde asks of a [`Node`].
//!
//! The bytes of a key have no type of their own, and are read as what is asked for: a number,
//! `true`, text as it is, or JSON for lists and tables. Where a type does not say what it wants
//! (untagged enums, flattened fields), they are what they look like.

use crate::{
    fault::Fault,
    name::{Name, numbers, parse},
    node::{Node, parse_json},
};
use kv_core::Bytes;
use serde::{
    Deserializer,
    de::{DeserializeSeed, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, VariantAccess, Visitor},
};
use std::{
    collections::{BTreeMap, btree_map},
    slice,
    str::FromStr,
};

/// Reads a node as the type that is asked for.
pub(crate) struct Typed<'a>(pub(crate) &'a Node);

fn text(raw: &Bytes) -> Result<&str, Fault> {
    std::str::from_utf8(raw).map_err(|_| Fault::new("expected text, found bytes that are not UTF-8"))
}

/// Gives the node as what it is.
fn plain<'de, V: Visitor<'de>>(node: &Node, visitor: V) -> Result<V::Value, Fault> {
    match node {
        Node::Null => visitor.visit_unit(),
        Node::Bool(value) => visitor.visit_bool(*value),
        Node::Int(integer) => plain_integer(*integer, visitor),
        Node::Float(float) => visitor.visit_f64(*float),
        Node::Text(text) => visitor.visit_str(text),
        Node::Raw(raw) => guessed(raw, visitor),
        Node::List(items) => {
            let mut items = Items { items: items.iter(), at: 0 };
            let value = visitor.visit_seq(&mut items)?;
            match items.items.len() {
                0 => Ok(value),
                more => Err(Fault::new(format!("there are {more} items too many"))),
            }
        }
        Node::Table(fields) => visitor.visit_map(Fields { fields: fields.iter(), value: None }),
    }
}

/// Gives an integer in the size that visitors of smaller ones know.
fn plain_integer<'de, V: Visitor<'de>>(integer: i128, visitor: V) -> Result<V::Value, Fault> {
    match (u64::try_from(integer), i64::try_from(integer)) {
        (Ok(integer), _) => visitor.visit_u64(integer),
        (_, Ok(integer)) => visitor.visit_i64(integer),
        _ => visitor.visit_i128(integer),
    }
}

/// Gives the bytes of a key as what they look like.
fn guessed<'de, V: Visitor<'de>>(raw: &Bytes, visitor: V) -> Result<V::Value, Fault> {
    let Ok(text) = std::str::from_utf8(raw) else { return visitor.visit_bytes(raw) };
    let word = text.trim();
    if let Ok(value) = word.parse::<bool>() {
        return visitor.visit_bool(value);
    }
    if let Some(integer) = word.parse::<i128>().ok().filter(|integer| integer.to_string() == word) {
        return plain_integer(integer, visitor);
    }
    let is_float = word.contains('.') && word.bytes().all(|byte| b"0123456789+-.eE".contains(&byte));
    if let Some(float) = word.parse::<f64>().ok().filter(|float| is_float && float.is_finite()) {
        return visitor.visit_f64(float);
    }
    match parse_json(raw) {
        Ok(node @ (Node::List(_) | Node::Table(_))) => plain(&node, visitor),
        _ => visitor.visit_str(text),
    }
}

/// Gives text.
fn string<'de, V: Visitor<'de>>(node: &Node, visitor: V) -> Result<V::Value, Fault> {
    match node {
        Node::Raw(raw) => visitor.visit_str(text(raw)?),
        node => plain(node, visitor),
    }
}

fn bytes<'de, V: Visitor<'de>>(node: &Node, visitor: V) -> Result<V::Value, Fault> {
    match node {
        Node::Raw(raw) => visitor.visit_bytes(raw),
        node => plain(node, visitor),
    }
}

fn unit<'de, V: Visitor<'de>>(node: &Node, visitor: V) -> Result<V::Value, Fault> {
    match node {
        Node::Raw(raw) if raw.is_empty() => visitor.visit_unit(),
        node => plain(node, visitor),
    }
}

fn list<'de, V: Visitor<'de>>(node: &Node, visitor: V) -> Result<V::Value, Fault> {
    compound(node, "a list", visitor)
}

fn table<'de, V: Visitor<'de>>(node: &Node, visitor: V) -> Result<V::Value, Fault> {
    compound(node, "a table", visitor)
}

/// Gives a list or a table, which the bytes of a key hold as JSON.
fn compound<'de, V: Visitor<'de>>(node: &Node, expected: &str, visitor: V) -> Result<V::Value, Fault> {
    let Node::Raw(raw) = node else { return plain(node, visitor) };
    match parse_json(raw) {
        Ok(node @ (Node::List(_) | Node::Table(_))) => plain(&node, visitor),
        _ => Err(Fault::new(format!("expected {expected} in JSON, found other text"))),
    }
}

fn ignored<'de, V: Visitor<'de>>(_: &Node, visitor: V) -> Result<V::Value, Fault> {
    visitor.visit_unit()
}

/// Gives a variant that has content: a table of one name.
fn variant<'de, V: Visitor<'de>>(table: &BTreeMap<String, Node>, visitor: V) -> Result<V::Value, Fault> {
    let mut entries = table.iter();
    match (entries.next(), entries.next()) {
        (Some((name, content)), None) => visitor.visit_enum(Tagged { name, content }),
        _ => Err(Fault::new("expected the name of a variant with its content, and nothing beside it")),
    }
}

/// Implements the methods that a function does, whatever they are given beside the visitor.
macro_rules! done_by {
    ($($done_by:ident: $($method:ident($($given:ty),*)),+;)+) => { $($(
        fn $method<V: Visitor<'de>>(self, $(_: $given,)* visitor: V) -> Result<V::Value, Fault> {
            $done_by(self.0, visitor)
        }
    )+)+ };
}

impl Typed<'_> {
    /// Returns the value that the bytes of a key spell; `None` for what has a type already.
    fn parsed<T: FromStr>(&self, expected: &str) -> Result<Option<T>, Fault> {
        match self.0 {
            Node::Raw(raw) => parse(text(raw)?, expected).map(Some),
            _ => Ok(None),
        }
    }
}

impl<'de> Deserializer<'de> for Typed<'_> {
    type Error = Fault;

    numbers!(plain);

    done_by! {
        plain: deserialize_any();
        string: deserialize_char(), deserialize_str(), deserialize_string(), deserialize_identifier();
        bytes: deserialize_bytes(), deserialize_byte_buf();
        unit: deserialize_unit(), deserialize_unit_struct(&'static str);
        list: deserialize_seq(), deserialize_tuple(usize), deserialize_tuple_struct(&'static str, usize);
        table: deserialize_map(), deserialize_struct(&'static str, &'static [&'static str]);
        ignored: deserialize_ignored_any();
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.0 {
            Node::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match self.0 {
            Node::Table(table) => variant(table, visitor),
            Node::Text(name) => visitor.visit_enum(name.as_str().into_deserializer()),
            Node::Raw(raw) => match (text(raw)?.trim(), parse_json(raw)) {
                (name, Ok(Node::Table(table))) if !variants.contains(&name) => variant(&table, visitor),
                (name, _) => visitor.visit_enum(name.into_deserializer()),
            },
            node => {
                let (variants, found) = (variants.join(", "), node.kind());
                Err(Fault::new(format!("expected one of {variants}, found {found}")))
            }
        }
    }
}

struct Items<'a> {
    items: slice::Iter<'a, Node>,
    at: usize,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Fault;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Fault> {
        let Some(item) = self.items.next() else { return Ok(None) };
        let at = self.at;
        self.at += 1;
        seed.deserialize(Typed(item)).map(Some).map_err(|fault| fault.below(&at.to_string()))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

struct Fields<'a> {
    fields: btree_map::Iter<'a, String, Node>,
    value: Option<(&'a str, &'a Node)>,
}

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = Fault;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Fault> {
        let Some((name, value)) = self.fields.next() else { return Ok(None) };
        self.value = Some((name.as_str(), value));
        seed.deserialize(Name(name)).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Fault> {
        let Some((name, value)) = self.value.take() else {
            return Err(Fault::new("its type asks for a value before its name"));
        };
        seed.deserialize(Typed(value)).map_err(|fault| fault.below(name))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.fields.len())
    }
}

/// A variant with its content.
struct Tagged<'a> {
    name: &'a str,
    content: &'a Node,
}

impl<'de> EnumAccess<'de> for Tagged<'_> {
    type Error = Fault;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Fault> {
        Ok((seed.deserialize(Name(self.name))?, self))
    }
}

impl<'de> VariantAccess<'de> for Tagged<'_> {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        match self.content {
            Node::Null => Ok(()),
            Node::Raw(raw) if raw.is_empty() => Ok(()),
            node => Err(Fault::new(format!("expected nothing, found {}", node.kind())).below(self.name)),
        }
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Fault> {
        seed.deserialize(Typed(self.content)).map_err(|fault| fault.below(self.name))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Fault> {
        list(self.content, visitor).map_err(|fault| fault.below(self.name))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        table(self.content, visitor).map_err(|fault| fault.below(self.name))
    }
}
