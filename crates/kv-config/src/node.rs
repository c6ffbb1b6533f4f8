//! Settings before they have a type: a tree of values.

use crate::fault::Fault;
use kv_core::{Bytes, Key};
use serde_json::error::Category;
use std::collections::{BTreeMap, btree_map};

/// A value, or a table of values.
#[derive(Clone, PartialEq)]
pub(crate) enum Node {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(String),
    /// The bytes of a key, whose type is what its reader asks for: text, a number, or JSON.
    Raw(Bytes),
    List(Vec<Node>),
    Table(BTreeMap<String, Node>),
}

impl Node {
    pub(crate) fn table() -> Self {
        Self::Table(BTreeMap::new())
    }

    /// Puts a leaf at this path of a table.
    ///
    /// # Errors
    /// A name of the path is a leaf, or there is something below the last.
    pub(crate) fn plant(&mut self, path: &Key, leaf: Node) -> Result<(), Fault> {
        let both = || Fault::new("is a value and a table of values").at(path.segments());
        let (mut at, mut names) = (self, path.segments().peekable());
        while let Some(name) = names.next() {
            let Self::Table(table) = at else { return Err(both()) };
            let entry = table.entry(name.to_owned());
            if names.peek().is_none() {
                let btree_map::Entry::Vacant(place) = entry else { return Err(both()) };
                place.insert(leaf);
                break;
            }
            at = entry.or_insert_with(Self::table);
        }
        Ok(())
    }

    /// Lays other settings over these: tables are merged name by name, all else is replaced.
    pub(crate) fn merge(&mut self, over: Node) {
        match (self, over) {
            (Self::Table(under), Self::Table(over)) => {
                for (name, node) in over {
                    match under.entry(name) {
                        btree_map::Entry::Vacant(place) => {
                            place.insert(node);
                        }
                        btree_map::Entry::Occupied(mut found) => found.get_mut().merge(node),
                    }
                }
            }
            (under, over) => *under = over,
        }
    }

    /// Says what it is, without what it holds.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "a boolean",
            Self::Int(_) => "an integer",
            Self::Float(_) => "a number",
            Self::Text(_) | Self::Raw(_) => "text",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
        }
    }
}

/// Reads JSON.
pub(crate) fn parse_json(json: &[u8]) -> Result<Node, Fault> {
    // By way of serde_json's own value, which reads numbers right whatever features other crates
    // have switched on.
    serde_json::from_slice::<serde_json::Value>(json).map(Node::from).map_err(|e| {
        // The parser's own words could show a piece of a value.
        let what =
            if e.classify() == Category::Eof { "is cut off: its JSON has no end" } else { "is no JSON" };
        Fault::new(format!("{what}, at line {}, column {}", e.line(), e.column()))
    })
}

impl From<serde_json::Value> for Node {
    fn from(value: serde_json::Value) -> Self {
        use serde_json::Value;
        match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(value),
            Value::Number(number) => {
                let integer = number.as_u64().map(i128::from).or_else(|| number.as_i64().map(i128::from));
                match (integer, number.as_f64()) {
                    (Some(integer), _) => Self::Int(integer),
                    (None, Some(float)) => Self::Float(float),
                    (None, None) => Self::Raw(Bytes::from(number.to_string())),
                }
            }
            Value::String(text) => Self::Text(text),
            Value::Array(items) => Self::List(items.into_iter().map(Self::from).collect()),
            Value::Object(fields) => {
                Self::Table(fields.into_iter().map(|(name, value)| (name, Self::from(value))).collect())
            }
        }
    }
}

/// Reads a document in TOML.
#[cfg(feature = "toml")]
pub(crate) fn parse_toml(document: &[u8]) -> Result<Node, Fault> {
    let text = std::str::from_utf8(document).map_err(|_| Fault::new("is no TOML: it is not UTF-8"))?;
    let table = toml::from_str::<toml::Table>(text).map_err(|e| {
        // The parser's own words would show a piece of the document.
        let before = e.span().and_then(|span| text.get(..span.start));
        let place = before.map_or_else(String::new, |before| {
            let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
            format!(", at line {}, column {column}", before.matches('\n').count() + 1)
        });
        Fault::new(format!("is no TOML{place}"))
    })?;
    Ok(Node::from(toml::Value::Table(table)))
}

#[cfg(feature = "toml")]
impl From<toml::Value> for Node {
    fn from(value: toml::Value) -> Self {
        use toml::Value;
        match value {
            Value::String(text) => Self::Text(text),
            Value::Integer(integer) => Self::Int(integer.into()),
            Value::Float(float) => Self::Float(float),
            Value::Boolean(value) => Self::Bool(value),
            Value::Datetime(moment) => Self::Text(moment.to_string()),
            Value::Array(items) => Self::List(items.into_iter().map(Self::from).collect()),
            Value::Table(fields) => {
                Self::Table(fields.into_iter().map(|(name, value)| (name, Self::from(value))).collect())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Node, parse_json};
    use kv_core::{Bytes, Key};

    fn json(text: &str) -> Node {
        parse_json(text.as_bytes()).unwrap()
    }

    #[test]
    fn tables_are_merged_and_all_else_is_replaced() {
        let mut node = json(r#"{"a":{"b":1,"c":[1,2]},"d":2}"#);
        node.merge(json(r#"{"a":{"c":[3],"e":null},"d":{"f":4}}"#));
        assert!(node == json(r#"{"a":{"b":1,"c":[3],"e":null},"d":{"f":4}}"#));
    }

    #[test]
    fn a_name_is_a_value_or_a_table() {
        let leaf = || Node::Raw(Bytes::from_static(b"1"));
        let key = |name| Key::parse(name).unwrap();
        let mut node = Node::table();
        node.plant(&key("a/b/c"), leaf()).unwrap();
        node.plant(&key("a/b/d"), leaf()).unwrap();
        for clash in ["a", "a/b", "a/b/c/d", "a/b/c"] {
            let fault = node.plant(&key(clash), leaf()).unwrap_err().text(true);
            assert_eq!(fault, format!("{}: is a value and a table of values", clash.replace('/', ".")));
        }
    }

    #[test]
    fn bad_documents_are_told_by_their_place() {
        let told = |text: &str| parse_json(text.as_bytes()).err().map(|fault| fault.text(true));
        let bad = told("{\n \"a\": secret}").unwrap();
        assert!(bad.starts_with("is no JSON, at line 2, column ") && !bad.contains("secret"), "{bad}");
        assert!(told("{\"a\": 1").unwrap().starts_with("is cut off"));
        assert!(told("18446744073709551615").is_none());
    }

    #[cfg(feature = "toml")]
    #[test]
    fn toml_is_read() {
        let node = super::parse_toml(b"a = 1\nwhen = 1979-05-27\n[b]\nc = [true, 1.5]\n").unwrap();
        assert!(node == json(r#"{"a":1,"when":"1979-05-27","b":{"c":[true,1.5]}}"#));
        let bad = super::parse_toml(b"a = 1\nb = secret\n").err().unwrap().text(true);
        assert!(bad.starts_with("is no TOML") && !bad.contains("secret"), "{bad}");
        assert!(super::parse_toml(b"\xff").is_err());
    }
}
