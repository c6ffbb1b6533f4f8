//! Reads and makes the attributes of items.

use crate::{
    client::clock::{Millis, ServiceTime},
    core::limits::GREATEST,
};
use aws_sdk_dynamodb::{primitives::Blob, types::AttributeValue};
use aws_sdk_dynamodbstreams::types::AttributeValue as StreamedValue;
use kv_core::{Bytes, Entry, Holder, Key, Version, backend::Instant};
use std::collections::HashMap;

/// The partition key. A store has one for its data, one for its locks and one for its leases.
pub(crate) const PARTITION: &str = "p";
/// The sort key: the key, the lock's name or the lease's id.
pub(crate) const KEY: &str = "k";
pub(crate) const VALUE: &str = "v";
pub(crate) const VERSION: &str = "ver";
/// The moment at which the item ends, in milliseconds of the service's time.
pub(crate) const ENDS: &str = "ends";
/// The second from which on the service may delete the item.
pub(crate) const TTL: &str = "ttl";
pub(crate) const LEASE: &str = "lease";
/// The number of the renewal that set the end.
pub(crate) const RENEWAL: &str = "renewal";
pub(crate) const OWNER: &str = "owner";
pub(crate) const TOKEN: &str = "token";
/// The number of times that the holder of the lock has changed its value.
pub(crate) const CHANGES: &str = "changes";

pub(crate) type Item = HashMap<String, AttributeValue>;

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

/// Returns the key by which the table has an item.
pub(crate) fn primary_key(partition: &str, key: &str) -> Item {
    HashMap::from([(PARTITION.to_owned(), text(partition)), (KEY.to_owned(), text(key))])
}

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

/// The attributes of an item, as far as they can be read.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// Holds the value; `None` where it was not asked for, or is of another type than this
    /// library's.
    pub(crate) value: Option<Bytes>,
    /// Holds the version; `None` for a foreign item.
    pub(crate) version: Option<Version>,
    pub(crate) ends: Option<Millis>,
    pub(crate) owner: Option<Box<str>>,
    pub(crate) token: Option<u64>,
    pub(crate) changes: Option<u64>,
    pub(crate) lease: Option<Box<str>>,
    pub(crate) renewal: Option<u64>,
    /// The earliest time that it may have been when the item was asked for. By now it may have been
    /// renewed, however late the answer came.
    as_of: Millis,
    /// Names the attributes that are there, and cannot be read.
    odd: Vec<&'static str>,
}

/// Returns the attribute, if it is there and of this library's type; if it is of another type,
/// notes its name.
fn read<A, T>(
    item: &HashMap<String, A>,
    name: &'static str,
    odd: &mut Vec<&'static str>,
    as_ours: impl Fn(&A) -> Option<T>,
) -> Option<T> {
    let read = as_ours(item.get(name)?);
    if read.is_none() {
        odd.push(name);
    }
    read
}

/// The moment at which an item is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'t>(&'t ServiceTime, Instant);

impl<'t> Asked<'t> {
    pub(crate) fn now(time: &'t ServiceTime) -> Self {
        Self(time, time.local().now())
    }

    /// Reads an item of the answer.
    pub(crate) fn found<A: Attribute>(self, item: &HashMap<String, A>) -> Found {
        Found::of(item, self.0.earliest_at(self.1))
    }
}

impl Found {
    /// Reads an item, which had ended for certain if its end was before `as_of`.
    pub(crate) fn of<A: Attribute>(item: &HashMap<String, A>, as_of: Millis) -> Self {
        let mut odd = Vec::new();
        let version = |attribute: &A| {
            let (high, low) = attribute.bytes()?.split_first_chunk::<8>()?;
            let version = Version::new(u64::from_be_bytes(*high), u64::from_be_bytes(low.try_into().ok()?));
            (!is_foreign(version)).then_some(version)
        };
        Self {
            value: item.get(VALUE).and_then(A::bytes).map(Bytes::copy_from_slice),
            version: read(item, VERSION, &mut odd, version),
            ends: read(item, ENDS, &mut odd, A::number),
            owner: read(item, OWNER, &mut odd, |owner| owner.text().map(Box::from)),
            token: read(item, TOKEN, &mut odd, A::number),
            changes: item.get(CHANGES).and_then(A::number),
            lease: read(item, LEASE, &mut odd, |lease| lease.text().map(Box::from)),
            renewal: item.get(RENEWAL).and_then(A::number),
            as_of,
            odd,
        }
    }

    /// Tells whether this renewal of its owner, or a later one, has set its end.
    pub(crate) fn is_renewed(&self, number: u64) -> bool {
        self.renewal.is_some_and(|last| last >= number)
    }

    /// Tells whether the attribute that names the lease cannot be read.
    pub(crate) fn has_odd_lease(&self) -> bool {
        self.odd.contains(&LEASE)
    }

    /// Returns the version; that of a foreign item is made of its value.
    pub(crate) fn version(&self) -> Option<Version> {
        self.version.or_else(|| self.value.as_deref().map(foreign))
    }

    pub(crate) fn entry(self, key: Key) -> Option<Entry> {
        let version = self.version()?;
        Some(Entry::new(key, self.value?, version))
    }

    /// Returns the holder that a lock's record names; the record must not have ended.
    pub(crate) fn holder(self) -> Option<Holder> {
        let (token, changes) = self.holder_version()?.parts();
        self.owner?;
        Some(Holder::new(token, self.value.unwrap_or_default()).with_changes(changes))
    }

    /// Returns the version of the holder that a lock's record names, or named before its end.
    pub(crate) fn holder_version(&self) -> Option<Version> {
        Some(Version::new(self.token?, self.changes.unwrap_or_default()))
    }

    /// Tells whether the item had ended for certain when it was asked for.
    pub(crate) fn is_over(&self) -> bool {
        self.ends.is_some_and(|end| end <= self.as_of)
    }

    /// Tells whether the item's end is still to come, or had passed when it was asked for; `None`
    /// where it has none, or the service's time is not known well enough to tell: others may have
    /// seen the end.
    pub(crate) fn is_alive(&self, time: &ServiceTime) -> Option<bool> {
        let end = self.ends?;
        let (is_over, is_to_come) = (self.is_over(), end > time.latest());
        (is_over || is_to_come).then_some(is_to_come)
    }

    /// Returns the attribute of a key's item that is damaged: of another type, or far in the
    /// service's future.
    pub(crate) fn damaged_key(&self, latest: Millis) -> Option<&'static str> {
        let is_odd = self.odd.contains(&VERSION);
        if is_odd || self.version.is_some_and(|version| !is_plausible(version, latest)) {
            Some(VERSION)
        } else if self.has_odd_end(latest) {
            Some(ENDS)
        } else {
            None
        }
    }

    /// Tells whether the end is damaged: of another type, or far in the service's future.
    pub(crate) fn has_odd_end(&self, latest: Millis) -> bool {
        self.odd.contains(&ENDS) || self.ends.is_some_and(|ends| ends > last_end(latest))
    }

    /// Returns the same of the record of a lock. A record without an owner needs no token and no
    /// end.
    pub(crate) fn damaged_lock(&self, latest: Millis) -> Option<&'static str> {
        let (is_odd, is_held) = (|name| self.odd.contains(&name), self.owner.is_some());
        if is_odd(OWNER) {
            Some(OWNER)
        } else if is_odd(TOKEN)
            || self.token.is_some_and(|token| token > last_token(latest))
            || is_held && self.token.is_none()
        {
            Some(TOKEN)
        } else if is_held && self.ends.is_none_or(|ends| ends > last_end(latest)) {
            Some(ENDS)
        } else {
            None
        }
    }
}

/// The difference, in milliseconds, that is allowed between the service's clocks when something
/// was written.
pub(crate) const FAR: Millis = 24 * 60 * 60 * 1000;

/// Returns the latest end that a life of this library can have.
pub(crate) fn last_end(latest: Millis) -> Millis {
    let longest = Millis::try_from(GREATEST.as_millis()).unwrap_or(Millis::MAX);
    latest.saturating_add(FAR).saturating_add(longest)
}

/// Returns the greatest token that this library can have given out: a token begins at the time,
/// and no lock is taken once a millisecond.
pub(crate) fn last_token(latest: Millis) -> u64 {
    latest.saturating_add(FAR)
}

/// Returns the microseconds of the latest version that this library can have given out.
pub(crate) fn last_version(latest: Millis) -> u64 {
    latest.saturating_add(FAR).saturating_mul(1000)
}

/// Tells whether this library can have given out the version.
pub(crate) fn is_plausible(version: Version, latest: Millis) -> bool {
    version.parts().0 <= last_version(latest)
}

/// Returns the version of a foreign value: equal for equal bytes, and older than any version of
/// this library.
fn foreign(value: &[u8]) -> Version {
    // FNV-1a is the same in every process, for as long as anybody keeps a version.
    let hash = value.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    Version::new(0, hash)
}

/// Tells whether this version is that of a foreign item.
pub(crate) fn is_foreign(version: Version) -> bool {
    version.parts().0 == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_of_another_type_or_far_away_is_damaged() {
        let now = 1_700_000_000_000;
        let damaged =
            |name: &str, value| Found::of(&HashMap::from([(name.to_owned(), value)]), now).damaged_key(now);
        assert_eq!(damaged(VERSION, bytes([0xff; 16])), Some(VERSION));
        assert_eq!(damaged(VERSION, bytes([0; 16])), Some(VERSION));
        assert_eq!(damaged(VERSION, text("words")), Some(VERSION));
        assert_eq!(damaged(VERSION, versioned(Version::new(now * 1000, 5))), None);
        assert_eq!(damaged(ENDS, text("words")), Some(ENDS));
        assert_eq!(damaged(ENDS, number(u64::MAX)), Some(ENDS));
        assert_eq!(damaged(ENDS, number(now)), None);
        // Other attributes of a foreign item do not matter.
        assert_eq!(damaged(OWNER, number(7)), None);
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
        assert_eq!(Found::of(&item, 0).version, Some(Version::new(7, 8)));
    }

    #[test]
    fn what_is_of_another_type_is_no_entry() {
        let item = HashMap::from([(VALUE.to_owned(), text("words"))]);
        assert!(Found::of(&item, 0).entry(Key::parse("a").unwrap()).is_none());
    }
}
