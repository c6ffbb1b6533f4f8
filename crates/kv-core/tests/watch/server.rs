//! A server in memory, with all that happened to it.

use kv_core::{
    Bytes, Entry, Key, Version, WatchEvent,
    backend::{Inbox, watch::Change},
};
use std::collections::{BTreeMap, HashMap};

/// The number of changes that overflow an inbox.
const FLOOD: u64 = 4200;

/// Random numbers by a seed (SplitMix64).
pub(super) struct Random(pub u64);

impl Random {
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    pub(super) fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }
}

/// The kind of a server, after those that there are: what it can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// Lists at one revision, and counts anew after it went back.
    Revision,
    /// Answers whole, with values, and counts anew after it went back.
    Whole,
    /// Lists pages as of now, publishes names as well as values, gives no version out twice.
    Names,
    /// Lists pages as of now, has no position, and others write without a version of ours.
    Records,
}

impl Style {
    pub(super) fn has_position(self) -> bool {
        matches!(self, Self::Revision | Self::Names)
    }

    fn counts_anew(self) -> bool {
        matches!(self, Self::Revision | Self::Whole)
    }
}

pub(super) type Data = BTreeMap<Key, Entry>;

/// Tells whether a version is that of a write that was none of ours.
pub(super) fn is_foreign(version: Version) -> bool {
    version.parts().0 == 0
}

/// The history of the server, in which each event has a number.
#[derive(Default)]
pub(super) struct Past {
    now: usize,
    written: HashMap<Entry, usize>,
    ended: HashMap<Key, usize>,
    went_back: Option<usize>,
}

impl Past {
    fn tick(&mut self) -> usize {
        self.now += 1;
        self.now
    }

    pub(super) fn now(&self) -> usize {
        self.now
    }

    /// Returns when this very write happened at first.
    pub(super) fn written(&self, entry: &Entry) -> Option<usize> {
        self.written.get(entry).copied()
    }

    pub(super) fn went_back_since(&self, at: usize) -> bool {
        self.went_back.is_some_and(|back| back > at)
    }

    /// Tells whether the key has ended since, or the server went back.
    pub(super) fn has_ended_since(&self, at: usize, key: &Key) -> bool {
        self.ended.get(key).is_some_and(|ended| *ended > at) || self.went_back_since(at)
    }
}

pub(super) struct Server {
    pub(super) style: Style,
    pub(super) random: Random,
    pub(super) data: Data,
    pub(super) counter: u64,
    pub(super) past: Past,
    pub(super) went_back: u64,
    /// Writes and troubles that are still to come.
    pub(super) budget: u32,
    pub(super) inbox: Inbox<Change>,
    pub(super) is_connected: bool,
    /// The connection broke, and the client finds out by an error.
    pub(super) is_broken: bool,
    /// The number of requests that fail from now on.
    pub(super) failing: u64,
    nonce: u64,
    backup: (Data, u64),
}

impl Server {
    pub(super) fn new(style: Style, seed: u64) -> Self {
        let mut server = Self {
            style,
            random: Random(seed),
            data: Data::new(),
            counter: 0,
            past: Past::default(),
            went_back: 0,
            budget: 0,
            inbox: Inbox::default(),
            is_connected: false,
            is_broken: false,
            failing: 0,
            nonce: 0,
            backup: Default::default(),
        };
        for _ in 0..server.random.below(12) {
            server.put_any();
        }
        server.budget = 150;
        server
    }

    fn any_key(&mut self) -> Key {
        Key::parse(&format!("tree/{}", self.random.below(12))).unwrap()
    }

    fn version(&mut self) -> Version {
        self.counter += 1;
        self.nonce += 1;
        Version::new(self.counter, if self.style.counts_anew() { 0 } else { self.nonce })
    }

    fn tell(&mut self, change: Change) {
        if self.is_connected {
            self.inbox.push(change, 1);
        }
    }

    fn put(&mut self, key: Key) {
        let value = self.random.below(4);
        let is_foreign = self.style == Style::Records && self.random.one_in(5);
        let version = if is_foreign { Version::new(0, 1000 + value) } else { self.version() };
        let entry = Entry::new(key.clone(), Bytes::from(vec![b'a' + value as u8]), version);
        self.data.insert(key.clone(), entry.clone());
        let now = self.past.tick();
        self.past.written.entry(entry.clone()).or_insert(now);
        let by_name = self.style == Style::Names && self.random.one_in(2);
        self.tell(if by_name { Change::Changed(key) } else { Change::Event(WatchEvent::Put(entry)) });
    }

    fn put_any(&mut self) {
        let key = self.any_key();
        self.put(key);
    }

    fn delete(&mut self, key: &Key) {
        let Some(before) = self.data.remove(key) else { return };
        let now = self.past.tick();
        self.past.ended.insert(key.clone(), now);
        let last = before.version;
        if self.style == Style::Names && self.random.one_in(2) {
            return self.tell(Change::Gone { key: key.clone(), last: Some(last) });
        }
        let version = match self.style {
            Style::Revision | Style::Names => self.version(),
            Style::Whole | Style::Records => last,
        };
        self.tell(Change::Event(WatchEvent::Delete { key: key.clone(), version }));
    }

    fn cut(&mut self) {
        self.is_connected = false;
        if self.random.one_in(2) {
            self.inbox = Inbox::default();
            self.is_broken = true;
        } else {
            self.inbox.lag();
        }
    }

    fn go_back(&mut self) {
        (self.data, self.counter) = match self.random.one_in(4) {
            true => Default::default(),
            false => self.backup.clone(),
        };
        self.past.went_back = Some(self.past.tick());
        self.went_back += 1;
        // Writes before anybody connects again hide that it went back.
        self.cut();
        for _ in 0..self.random.below(8) {
            self.put_any();
        }
    }

    /// Lets some things happen meanwhile.
    pub(super) fn live(&mut self) {
        for _ in 0..self.random.below(4) {
            if self.budget == 0 {
                self.failing = 0;
                return;
            }
            self.budget -= 1;
            self.happen();
        }
    }

    fn happen(&mut self) {
        match self.random.below(64) {
            0..30 => self.put_any(),
            30..44 => {
                let key = self.any_key();
                self.delete(&key);
            }
            44..46 => self.data.clone().keys().for_each(|key| self.delete(key)),
            46..48 => self.data.clone().into_keys().for_each(|key| self.put(key)),
            48..51 => self.inbox.lag(),
            51..54 => self.cut(),
            54..57 => self.failing = self.random.below(5),
            57..60 => self.backup = (self.data.clone(), self.counter),
            60..62 => self.go_back(),
            62 if self.random.one_in(16) => (0..FLOOD).for_each(|_| self.put_any()),
            _ => {}
        }
    }
}
