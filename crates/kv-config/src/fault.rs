//! Faults in settings, described without any value: the descriptions are logged and written to the
//! store, and a value may be a secret.

use serde::de::{self, Expected, Unexpected};
use std::{error::Error as StdError, fmt};

/// A fault in settings: where it is, and what it is.
#[derive(Debug)]
pub(crate) struct Fault {
    /// The names from the root on.
    path: Vec<String>,
    /// The description of the fault, without any value.
    what: String,
    /// The words of a type that reads its values by itself, which may show them.
    words: Option<String>,
}

impl Fault {
    #[cold]
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self { path: Vec::new(), what: what.into(), words: None }
    }

    /// Sets the place of the fault.
    pub(crate) fn at<'a>(mut self, path: impl IntoIterator<Item = &'a str>) -> Self {
        self.path = path.into_iter().map(str::to_owned).collect();
        self
    }

    /// Says that the fault is in the value of this name.
    pub(crate) fn below(mut self, name: &str) -> Self {
        self.path.insert(0, name.to_owned());
        self
    }

    /// Returns the fault in one line; the words that may show values are in it where `quotes` says
    /// so.
    pub(crate) fn text(&self, quotes: bool) -> String {
        let Self { path, what, words } = self;
        let place = if path.is_empty() { String::new() } else { format!("{}: ", path.join(".")) };
        match words {
            Some(words) if quotes => format!("{place}{what}: {words}"),
            _ => format!("{place}{what}"),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text(false))
    }
}

impl StdError for Fault {}

impl de::Error for Fault {
    fn custom<T: fmt::Display>(words: T) -> Self {
        Self { words: Some(words.to_string()), ..Self::new("its type refuses the value") }
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(format!("expected {expected}, found {}", kind(found)))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(format!("expected {expected}, found {} that is none", kind(found)))
    }

    fn invalid_length(length: usize, expected: &dyn Expected) -> Self {
        Self::new(format!("expected {expected}, found {length} items"))
    }

    fn unknown_variant(_: &str, expected: &'static [&'static str]) -> Self {
        Self::new(format!("expected one of {}, found another name", expected.join(", ")))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self::new(format!("there is no such setting; there are: {}", expected.join(", "))).below(field)
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new("is missing").below(field)
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::new("is there twice").below(field)
    }
}

/// Returns what was found, without what it holds.
fn kind(found: Unexpected<'_>) -> &'static str {
    match found {
        Unexpected::Bool(_) => "a boolean",
        Unexpected::Unsigned(_) | Unexpected::Signed(_) => "an integer",
        Unexpected::Float(_) => "a number",
        Unexpected::Char(_) | Unexpected::Str(_) => "text",
        Unexpected::Bytes(_) => "bytes",
        Unexpected::Unit | Unexpected::Option => "nothing",
        Unexpected::Seq | Unexpected::TupleVariant => "a list",
        Unexpected::Map | Unexpected::StructVariant => "a table",
        _ => "something else",
    }
}
