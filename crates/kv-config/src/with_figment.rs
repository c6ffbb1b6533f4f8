//! The crate `figment`: its values as defaults, and stored settings as a provider.

use crate::{node::Node, snapshot::Snapshot, values::Values};
use figment::{
    Figment, Metadata, Profile, Provider,
    value::{Dict, Map, Num, Value},
};
use kv_core::{Bytes, Error, ErrorKind, Result};

/// Takes what the figment gives in the profile that it has selected.
impl From<&Figment> for Values {
    fn from(figment: &Figment) -> Self {
        Self::new(read(figment))
    }
}

/// Takes what the figment gives in the profile that it has selected.
impl From<Figment> for Values {
    fn from(figment: Figment) -> Self {
        Self::from(&figment)
    }
}

fn read(figment: &Figment) -> Result<Node> {
    figment.extract::<Value>().map(Node::from).map_err(|e| {
        // Its own words may show a value.
        let from = e.metadata.map_or_else(|| "one of its providers".into(), |metadata| metadata.name);
        let why = format!("the figment cannot be read, because of {from}; its `extract` says why");
        Error::new(ErrorKind::InvalidArgument, why)
    })
}

impl From<Value> for Node {
    fn from(value: Value) -> Self {
        match value {
            Value::String(_, text) => Self::Text(text),
            Value::Char(_, character) => Self::Text(character.into()),
            Value::Bool(_, value) => Self::Bool(value),
            Value::Num(_, number) => from_number(number),
            Value::Empty(..) => Self::Null,
            Value::Dict(_, fields) => {
                Self::Table(fields.into_iter().map(|(name, value)| (name, Self::from(value))).collect())
            }
            Value::Array(_, items) => Self::List(items.into_iter().map(Self::from).collect()),
        }
    }
}

fn from_number(number: Num) -> Node {
    if let Some(float) = number.to_f64() {
        return Node::Float(float);
    }
    match (number.to_i128(), number.to_u128()) {
        (Some(integer), _) => Node::Int(integer),
        (None, Some(integer)) => match i128::try_from(integer) {
            Ok(integer) => Node::Int(integer),
            Err(_) => Node::Raw(Bytes::from(integer.to_string())),
        },
        (None, None) => Node::Null,
    }
}

/// Gives the settings in the default profile. The text of a key is read as the crate's own `Env`
/// reads a variable: `5` is a number, `[a, b]` a list.
impl Provider for Snapshot {
    fn metadata(&self) -> Metadata {
        let metadata = Metadata::from("settings", self.place().name());
        metadata.interpolater(|_: &Profile, names: &[&str]| names.join("/"))
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let node = self.node().map_err(|fault| figment::Error::from(fault.to_string()))?;
        match to_value(node) {
            Value::Dict(_, fields) => Ok(Profile::Default.collect(fields)),
            _ => Err(figment::Error::from("the settings are not a table")),
        }
    }
}

fn to_value(node: Node) -> Value {
    match node {
        Node::Null => Value::from(figment::value::Empty::None),
        Node::Bool(value) => Value::from(value),
        Node::Int(integer) => match (u64::try_from(integer), i64::try_from(integer)) {
            (Ok(integer), _) => Value::from(integer),
            (_, Ok(integer)) => Value::from(integer),
            _ => Value::from(integer),
        },
        Node::Float(float) => Value::from(float),
        Node::Text(text) => Value::from(text),
        Node::Raw(raw) => match std::str::from_utf8(&raw).ok().and_then(|text| text.parse().ok()) {
            Some(value) => value,
            None => Value::from(raw.to_vec()),
        },
        Node::List(items) => Value::from(items.into_iter().map(to_value).collect::<Vec<_>>()),
        Node::Table(fields) => {
            Value::from(fields.into_iter().map(|(name, node)| (name, to_value(node))).collect::<Dict>())
        }
    }
}
