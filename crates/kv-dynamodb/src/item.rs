//! What an item of the table looks like, and the expressions that speak of it.

use crate::clock::Millis;
use aws_sdk_dynamodb::{primitives::Blob, types::AttributeValue};
use aws_sdk_dynamodbstreams::types::AttributeValue as StreamedValue;
use kv_core::{Bytes, Entry, Key, Version};
use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::atomic::{AtomicU64, Ordering},
};

/// The partition key, which a store has for its data, one for its locks and one for its leases.
pub(crate) const PARTITION: &str = "p";
/// The sort key: the key, the lock's name or the lease's id.
pub(crate) const KEY: &str = "k";
pub(crate) const VALUE: &str = "v";
pub(crate) const VERSION: &str = "ver";
/// When it ends, in milliseconds of the service's time.
pub(crate) const ENDS: &str = "ends";
/// When the service may delete it, in seconds.
pub(crate) const TTL: &str = "ttl";
pub(crate) const LEASE: &str = "lease";
pub(crate) const OWNER: &str = "owner";
pub(crate) const TOKEN: &str = "token";

pub(crate) type Item = HashMap<String, AttributeValue>;

/// A number that nobody else uses.
pub(crate) fn unique() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

/// An attribute, read from the table or from its stream.
pub(crate) trait Attribute {
    fn bytes(&self) -> Option<&[u8]>;
    fn text(&self) -> Option<&str>;
    fn number(&self) -> Option<u64>;
}

macro_rules! attribute {
    ($($kind:ty),*) => { $(
        impl Attribute for $kind {
            fn bytes(&self) -> Option<&[u8]> {
                self.as_b().ok().map(AsRef::as_ref)
            }
            fn text(&self) -> Option<&str> {
                self.as_s().ok().map(String::as_str)
            }
            fn number(&self) -> Option<u64> {
                self.as_n().ok()?.parse().ok()
            }
        }
    )* };
}
attribute!(AttributeValue, StreamedValue);

pub(crate) fn text(text: impl Into<String>) -> AttributeValue {
    AttributeValue::S(text.into())
}

pub(crate) fn number(number: u64) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

pub(crate) fn bytes(bytes: impl Into<Vec<u8>>) -> AttributeValue {
    AttributeValue::B(Blob::new(bytes))
}

pub(crate) fn versioned(version: Version) -> AttributeValue {
    let (high, low) = version.parts();
    bytes([high.to_be_bytes(), low.to_be_bytes()].concat())
}

/// What an item says of itself.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// `None` where it was not asked for, or is of another type than ours.
    pub(crate) value: Option<Bytes>,
    /// `None` for what another tool wrote.
    pub(crate) version: Option<Version>,
    pub(crate) ends: Option<Millis>,
    pub(crate) owner: Option<String>,
    pub(crate) token: Option<u64>,
}

impl Found {
    pub(crate) fn of<A: Attribute>(item: &HashMap<String, A>) -> Self {
        let at = |name: &str| item.get(name);
        let version = at(VERSION).and_then(A::bytes).and_then(|bytes| {
            let (high, low) = bytes.split_first_chunk::<8>()?;
            Some(Version::new(u64::from_be_bytes(*high), u64::from_be_bytes(low.try_into().ok()?)))
        });
        if let Some(version) = version {
            Versions::seen(version);
        }
        Self {
            value: at(VALUE).and_then(A::bytes).map(Bytes::copy_from_slice),
            version,
            ends: at(ENDS).and_then(A::number),
            owner: at(OWNER).and_then(A::text).map(str::to_owned),
            token: at(TOKEN).and_then(A::number),
        }
    }

    /// The version; for what another tool wrote, one made of the value.
    pub(crate) fn version(&self) -> Option<Version> {
        self.version.or_else(|| self.value.as_deref().map(foreign))
    }

    pub(crate) fn entry(self, key: Key) -> Option<Entry> {
        let version = self.version()?;
        Some(Entry::new(key, self.value?, version))
    }
}

/// The version of a value that another tool wrote without one: equal for equal bytes, and older than any of ours.
fn foreign(value: &[u8]) -> Version {
    // FNV-1a: the same in every process, for as long as anybody keeps a version.
    let hash = value.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    Version::new(0, hash)
}

pub(crate) fn is_foreign(version: Version) -> bool {
    version.parts().0 == 0
}

/// Makes versions: microseconds of the service's time at the latest, or one more than the last one that this process has
/// made or seen; and a number that no other process uses. So they go up with the writes of a key, in this process also where
/// it was deleted, and are never given out twice.
pub(crate) struct Versions;

/// One for all stores of a process, so that they need not be of one mind about the time.
static LAST: AtomicU64 = AtomicU64::new(0);

impl Versions {
    pub(crate) fn next(latest: Millis) -> Version {
        let now = latest.saturating_mul(1000);
        let step = |last: u64| Some(last.saturating_add(1).max(now));
        let last = LAST.fetch_update(Ordering::Relaxed, Ordering::Relaxed, step).unwrap_or_else(|last| last);
        Version::new(last.saturating_add(1).max(now), unique())
    }

    pub(crate) fn seen(version: Version) {
        LAST.fetch_max(version.parts().0, Ordering::Relaxed);
    }
}

/// The names and values of the expressions of one request: the service refuses one that is given and not used.
#[derive(Clone, Debug, Default)]
pub(crate) struct Terms {
    pub(crate) names: HashMap<String, String>,
    pub(crate) values: HashMap<String, AttributeValue>,
}

impl Terms {
    /// The attribute, under a name that is no word of the service's.
    pub(crate) fn name(&mut self, attribute: &str) -> String {
        let alias = format!("#{attribute}");
        self.names.insert(alias.clone(), attribute.to_owned());
        alias
    }

    pub(crate) fn value(&mut self, value: AttributeValue) -> String {
        let alias = format!(":{}", self.values.len());
        self.values.insert(alias.clone(), value);
        alias
    }

    pub(crate) fn names(&self) -> Option<HashMap<String, String>> {
        (!self.names.is_empty()).then(|| self.names.clone())
    }

    pub(crate) fn values(&self) -> Option<HashMap<String, AttributeValue>> {
        (!self.values.is_empty()).then(|| self.values.clone())
    }

    /// It has not ended.
    pub(crate) fn lives(&mut self, now: Millis) -> String {
        let (ends, now) = (self.name(ENDS), self.value(number(now)));
        format!("(attribute_not_exists({ends}) OR {ends} > {now})")
    }

    /// It is a key of ours or another tool's, and has not ended.
    pub(crate) fn exists(&mut self, now: Millis) -> String {
        let (value, kind) = (self.name(VALUE), self.value(text("B")));
        format!("(attribute_type({value}, {kind}) AND {})", self.lives(now))
    }

    pub(crate) fn is_at(&mut self, version: Version, now: Millis) -> String {
        let (name, version) = (self.name(VERSION), self.value(versioned(version)));
        format!("({name} = {version} AND {})", self.lives(now))
    }

    /// It is what another tool wrote.
    pub(crate) fn is_foreign(&mut self, value: Bytes, now: Millis) -> String {
        let (version, name) = (self.name(VERSION), self.name(VALUE));
        let value = self.value(bytes(value));
        format!("(attribute_not_exists({version}) AND {name} = {value} AND {})", self.lives(now))
    }

    /// What is there is older, so that versions go up.
    pub(crate) fn is_older(&mut self, than: Version) -> String {
        let (name, than) = (self.name(VERSION), self.value(versioned(than)));
        format!("(attribute_not_exists({name}) OR {name} < {than})")
    }

    /// Its holder is the one of this id.
    pub(crate) fn is_owned(&mut self, owner: &str) -> String {
        let (name, owner) = (self.name(OWNER), self.value(text(owner)));
        format!("{name} = {owner}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_go_up_also_when_the_time_does_not() {
        let mut last = Versions::next(5);
        for latest in [5, 5, 4, 0, 6, 5] {
            let next = Versions::next(latest);
            assert!(next.parts().0 > last.parts().0, "{next} after {last}");
            last = next;
        }
        let (high, low) = last.parts();
        Versions::seen(Version::new(high + 1000, low));
        assert!(Versions::next(0).parts().0 > high + 1000);
    }

    #[test]
    fn a_version_is_stored_in_its_order() {
        let stored = |high, low| match versioned(Version::new(high, low)) {
            AttributeValue::B(blob) => blob.into_inner(),
            other => panic!("{other:?}"),
        };
        assert!(stored(1, u64::MAX) < stored(2, 0));
        assert!(stored(255, 0) < stored(256, 0));
        let item = HashMap::from([(VERSION.to_owned(), versioned(Version::new(7, 8)))]);
        assert_eq!(Found::of(&item).version, Some(Version::new(7, 8)));
    }

    #[test]
    fn what_is_of_another_type_is_no_entry() {
        let item = HashMap::from([(VALUE.to_owned(), text("words"))]);
        assert!(Found::of(&item).entry(Key::parse("a").unwrap()).is_none());
    }
}
