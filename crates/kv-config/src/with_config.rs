//! The crate `config`: its values as defaults, and stored settings as a source.

use crate::{node::Node, snapshot::Snapshot, source::Source, values::Values};
use config::{AsyncSource, Config, ConfigError, Map, Value, ValueKind};
use kv_core::{Bytes, Error, ErrorKind, driver::async_trait};

/// Takes all values of the configuration. Text counts as any type that it spells, as it does there.
impl From<&Config> for Values {
    fn from(config: &Config) -> Self {
        Self::new(config::Source::collect(config).map(Node::from).map_err(|_| {
            // Its own words may show a value.
            let why = "the configuration is not a table; its `try_deserialize` says more";
            Error::new(ErrorKind::InvalidArgument, why)
        }))
    }
}

/// Takes all values of the configuration. Text counts as any type that it spells, as it does there.
impl From<Config> for Values {
    fn from(config: Config) -> Self {
        Self::from(&config)
    }
}

impl From<Map<String, Value>> for Node {
    fn from(fields: Map<String, Value>) -> Self {
        Self::Table(fields.into_iter().map(|(name, value)| (name, from_value(value))).collect())
    }
}

fn from_value(value: Value) -> Node {
    let spelt = |number: String| Node::Raw(Bytes::from(number));
    match value.kind {
        ValueKind::Nil => Node::Null,
        ValueKind::Boolean(value) => Node::Bool(value),
        ValueKind::I64(integer) => Node::Int(integer.into()),
        ValueKind::I128(integer) => Node::Int(integer),
        ValueKind::U64(integer) => Node::Int(integer.into()),
        ValueKind::U128(integer) => {
            i128::try_from(integer).map_or_else(|_| spelt(integer.to_string()), Node::Int)
        }
        ValueKind::Float(float) => Node::Float(float),
        ValueKind::String(text) => Node::Raw(Bytes::from(text)),
        ValueKind::Table(fields) => Node::from(fields),
        ValueKind::Array(items) => Node::List(items.into_iter().map(from_value).collect()),
    }
}

/// Gives the settings. The text of a key is text, which the crate reads as the type that is asked
/// for. A name with a dot or a bracket in it is read as a path, as the crate does with all sources.
impl config::Source for Snapshot {
    fn clone_into_box(&self) -> Box<dyn config::Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        let origin = self.place().name().to_owned();
        match self.node() {
            Ok(Node::Table(fields)) => {
                Ok(fields.into_iter().map(|(name, node)| (name, to_value(Some(&origin), node))).collect())
            }
            Ok(_) => Err(ConfigError::Message(format!("the settings in {origin} are not a table"))),
            Err(fault) => Err(ConfigError::Message(format!("{fault} in {origin}"))),
        }
    }
}

/// Reads the settings anew each time that it is asked.
#[async_trait]
impl AsyncSource for Source {
    async fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        let snapshot = self.snapshot().await.map_err(|e| ConfigError::Foreign(Box::new(e)))?;
        config::Source::collect(&snapshot)
    }
}

fn to_value(origin: Option<&String>, node: Node) -> Value {
    let kind = match node {
        Node::Null => ValueKind::Nil,
        Node::Bool(value) => ValueKind::Boolean(value),
        Node::Int(integer) => match (i64::try_from(integer), u64::try_from(integer)) {
            (Ok(integer), _) => ValueKind::I64(integer),
            (_, Ok(integer)) => ValueKind::U64(integer),
            _ => ValueKind::I128(integer),
        },
        Node::Float(float) => ValueKind::Float(float),
        Node::Text(text) => ValueKind::String(text),
        Node::Raw(raw) => match String::from_utf8(raw.to_vec()) {
            Ok(text) => ValueKind::String(text),
            Err(e) => {
                let bytes = e.into_bytes().into_iter();
                ValueKind::Array(bytes.map(|byte| Value::new(origin, i64::from(byte))).collect())
            }
        },
        Node::List(items) => ValueKind::Array(items.into_iter().map(|node| to_value(origin, node)).collect()),
        Node::Table(fields) => {
            ValueKind::Table(fields.into_iter().map(|(name, node)| (name, to_value(origin, node))).collect())
        }
    };
    Value::new(origin, kind)
}
