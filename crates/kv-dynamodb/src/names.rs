//! Spells keys, locks and leases as the table has them, and tells which store is which.

use kv_core::{Directory, Key};

/// A character that is greater than every one in a key.
const LAST: char = '\u{10ffff}';
/// The longest partition key that the service takes, in bytes.
const LONGEST: usize = 2048;

/// The partitions of one store.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    prefix: String,
    pub(crate) data: String,
    pub(crate) locks: String,
    pub(crate) leases: String,
}

/// A range of sort keys, both ends included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) start: String,
    pub(crate) end: String,
}

/// The identity of a store, whatever way it is reached by. Stores that differ in any of these
/// fields share nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Identity {
    /// Region, account and name of the table.
    pub(crate) arn: Option<String>,
    /// Tells apart the tables that had this name one after another.
    pub(crate) id: Option<String>,
    pub(crate) made: Option<String>,
    pub(crate) table: String,
    pub(crate) prefix: String,
}

impl Names {
    pub(crate) fn new(prefix: String) -> Self {
        let of = |area: &str| format!("{area}:{prefix}");
        Self { data: of("kv"), locks: of("kv-lock"), leases: of("kv-lease"), prefix }
    }

    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Returns the most bytes that a prefix may have.
    pub(crate) fn longest_prefix() -> usize {
        LONGEST - "kv-lease:".len()
    }

    /// Returns the key of this name; `None` for a name that is no key of this library.
    pub(crate) fn parse(name: &str) -> Option<Key> {
        Key::from_stored(name)
    }

    /// Returns the range of everything strictly below a directory, and of nothing else.
    pub(crate) fn below(directory: &Directory) -> Range {
        let start = directory.start();
        let end = format!("{start}{LAST}");
        // The service takes no empty value for a sort key.
        Range { start: if start.is_empty() { "\0".into() } else { start }, end }
    }

    /// Returns the first sort key behind this one.
    pub(crate) fn after(name: &str) -> String {
        format!("{name}\0")
    }

    /// Returns the first sort key behind everything in a directory.
    pub(crate) fn behind_all(directory: &Directory) -> String {
        format!("{}0", directory.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_a_range_of_its_own() {
        let range = Names::below(&Directory::parse("app").unwrap());
        let holds = |name: &str| range.start.as_str() <= name && name <= range.end.as_str();
        assert!(["app/x", "app/ä", "app/\u{10fffd}/z"].into_iter().all(holds));
        assert!(!["app", "app.d/x", "app0", "application/x"].into_iter().any(holds));
        assert!(Names::behind_all(&Directory::parse("app").unwrap()).as_str() > range.end.as_str());
    }

    #[test]
    fn prefixes_that_run_into_each_other_are_apart() {
        let (a, b) = (Names::new("a".into()), Names::new("a/b".into()));
        assert!(a.data != b.data && a.locks != b.locks && a.data != a.locks);
        assert_eq!(Names::new(String::new()).data, "kv:");
    }
}
