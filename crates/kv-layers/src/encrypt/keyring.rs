//! The keys of an encrypting layer.

use aes_gcm::{Aes256Gcm, KeyInit};
use kv_core::{Error, ErrorKind, Result, backend::Mutex};
use std::{collections::BTreeMap, fmt, sync::Arc};

/// The keys of an [`Encrypt`](crate::Encrypt), each of 256 bits and with a number of its own. One
/// of them seals what is written; all of them open what is read. Clones are one keyring: a change
/// counts for every layer that has it, from the next call on.
///
/// # Rotation
/// In each step, all processes must be through before the next step begins:
///
/// 1. [`add`](Self::add) the new key everywhere: it can be read by then.
/// 2. [`write_with`](Self::write_with) the new key.
/// 3. Write anew what the old key has sealed. [`Encrypt::key_of`](crate::Encrypt::key_of) tells,
///    of a value as the store has it, which key that is.
/// 4. [`remove`](Self::remove) the old key.
///
/// Each key must come from a source of randomness, not from a password. A key should seal less
/// than 2^32 values, because the nonces are random: rotate before that, which at a thousand writes
/// a second is once in seven weeks.
///
/// `Debug` shows the numbers, never a key. The memory of a key is wiped when the last layer has
/// let go of it; that of the array that it was given as is the caller's.
///
/// # Example
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
/// use kv_layers::{Encrypt, Keyring};
///
/// # let (old, new) = ([1; 32], [2; 32]);
/// let store = kv_memory::open("memory://").await?;
/// let keys = Keyring::new(1, old);
/// let kv = store.clone().layer(Encrypt::new(&keys));
/// kv.put("token", "secret").await?;
///
/// keys.add(2, new)?;
/// keys.write_with(2)?;
/// for entry in store.list("").await? {
///     if Encrypt::key_of(&entry.value) == Some(1) {
///         let opened = kv.get(&entry.key).await?.expect("nobody deletes it");
///         kv.put(&entry.key, opened.value).if_version(opened.version).await?;
///     }
/// }
/// keys.remove(1)?;
/// assert_eq!(kv.get("token").await?.unwrap().text(), Some("secret"));
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Keyring(Arc<Mutex<Ring>>);

struct Ring {
    /// The number of the key that seals; it is one of `keys`.
    current: u32,
    keys: BTreeMap<u32, Arc<Aes256Gcm>>,
}

impl Keyring {
    /// Makes a keyring of one key, which seals.
    pub fn new(number: u32, key: [u8; 32]) -> Self {
        let keys = BTreeMap::from([(number, cipher(key))]);
        Self(Arc::new(Mutex::new(Ring { current: number, keys })))
    }

    /// Adds a key, which opens what it has sealed elsewhere, and seals nothing yet.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) when there is a key of this number: a
    /// number stands for one key for ever.
    pub fn add(&self, number: u32, key: [u8; 32]) -> Result<()> {
        let mut ring = self.0.lock();
        if ring.keys.contains_key(&number) {
            return Err(refused(format!("the keyring has a key {number}; give the new one another number")));
        }
        ring.keys.insert(number, cipher(key));
        Ok(())
    }

    /// Has this key seal what is written from now on.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) when there is no key of this number.
    pub fn write_with(&self, number: u32) -> Result<()> {
        let mut ring = self.0.lock();
        if !ring.keys.contains_key(&number) {
            return Err(refused(format!("the keyring has no key {number}; `add` it first")));
        }
        ring.current = number;
        Ok(())
    }

    /// Removes a key: what it has sealed cannot be read any more. Returns whether it was there.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for the key that seals.
    pub fn remove(&self, number: u32) -> Result<bool> {
        let mut ring = self.0.lock();
        if ring.current == number {
            let why = format!("the key {number} seals what is written; `write_with` another one first");
            return Err(refused(why));
        }
        Ok(ring.keys.remove(&number).is_some())
    }

    /// Returns the number of the key that seals.
    pub fn writes_with(&self) -> u32 {
        self.0.lock().current
    }

    /// Returns the numbers of all keys, in ascending order.
    pub fn numbers(&self) -> Vec<u32> {
        self.0.lock().keys.keys().copied().collect()
    }

    /// Returns the key that seals, with its number.
    pub(super) fn current(&self) -> Option<(u32, Arc<Aes256Gcm>)> {
        let ring = self.0.lock();
        Some((ring.current, ring.keys.get(&ring.current)?.clone()))
    }

    /// Returns the key of this number.
    pub(super) fn key(&self, number: u32) -> Option<Arc<Aes256Gcm>> {
        self.0.lock().keys.get(&number).cloned()
    }
}

fn cipher(key: [u8; 32]) -> Arc<Aes256Gcm> {
    Arc::new(Aes256Gcm::new(&aes_gcm::Key::<Aes256Gcm>::from(key)))
}

#[cold]
fn refused(why: String) -> Error {
    Error::new(ErrorKind::InvalidArgument, why)
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ring = self.0.lock();
        let numbers: Vec<_> = ring.keys.keys().collect();
        f.debug_struct("Keyring").field("keys", &numbers).field("writes_with", &ring.current).finish()
    }
}
