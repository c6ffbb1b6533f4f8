//! The form of a sealed value.
//!
//! | bytes | are |
//! |---|---|
//! | 4 | the mark `kve1` |
//! | 4 | the number of the key, the highest byte first |
//! | 12 | the nonce, which is random |
//! | as many as the value | the value, encrypted |
//! | 16 | the tag, which proves all of it |
//!
//! The tag also covers the mark, the number, what the value is of (a key or a lock), and its name.

use super::keyring::Keyring;
use aes_gcm::{
    AeadInOut, Aes256Gcm,
    aead::{Aead, Generate, Nonce, Payload},
};
use kv_core::{Bytes, Error, ErrorKind, Key, Result};

const MARK: [u8; 4] = *b"kve1";
const NUMBER_ENDS: usize = 8;
const NONCE_ENDS: usize = 20;
const TAG: usize = 16;
/// The bytes that sealing adds to a value.
pub(super) const OVERHEAD: usize = NONCE_ENDS + TAG;

/// The owner of a value: a key, or a lock, which may have the same name.
#[derive(Clone, Copy)]
pub(super) enum Of {
    Key,
    Lock,
}

/// Returns what the tag covers beside the value.
fn bound(number: u32, of: Of, name: &Key) -> Vec<u8> {
    let mut bound = Vec::with_capacity(NUMBER_ENDS + 1 + name.as_str().len());
    bound.extend_from_slice(&MARK);
    bound.extend_from_slice(&number.to_be_bytes());
    bound.push(match of {
        Of::Key => b'k',
        Of::Lock => b'l',
    });
    bound.extend_from_slice(name.as_str().as_bytes());
    bound
}

/// Seals a value of this name.
pub(super) fn seal(keys: &Keyring, of: Of, name: &Key, value: &[u8]) -> Result<Bytes> {
    let broken = |why: String| Error::new(ErrorKind::Other, why);
    let (number, cipher) = keys.current().ok_or_else(|| broken("the keyring has no key".into()))?;
    let nonce = Nonce::<Aes256Gcm>::try_generate();
    let nonce = nonce.map_err(|e| broken(format!("the system gave no random bytes to seal with: {e}")))?;
    let mut sealed = Vec::with_capacity(OVERHEAD + value.len());
    sealed.extend_from_slice(&MARK);
    sealed.extend_from_slice(&number.to_be_bytes());
    sealed.extend_from_slice(nonce.as_slice());
    sealed.extend_from_slice(value);
    let bound = bound(number, of, name);
    let tag = cipher.encrypt_inout_detached(&nonce, &bound, (&mut sealed[NONCE_ENDS..]).into());
    let tag = tag.map_err(|_| broken("the value is too long to be sealed".into()))?;
    sealed.extend_from_slice(tag.as_slice());
    Ok(sealed.into())
}

/// Opens a value of this name.
///
/// # Errors
/// [`Corrupt`](ErrorKind::Corrupt) for all that this layer, with these keys, did not seal for this
/// name.
pub(super) fn open(keys: &Keyring, of: Of, name: &Key, sealed: &[u8]) -> Result<Bytes> {
    let what = match of {
        Of::Key => "the value of the key",
        Of::Lock => "the value of the holder of the lock",
    };
    let corrupt = |why: String| Error::new(ErrorKind::Corrupt, format!("{what} {name:?} {why}"));
    let number = key_of(sealed).ok_or_else(|| {
        corrupt("is not sealed; it was written without the layer `Encrypt`: write it anew with it".into())
    })?;
    let cipher = keys.key(number).ok_or_else(|| {
        corrupt(format!("is sealed with the key {number}, which the keyring does not have; `add` it"))
    })?;
    let nonce = Nonce::<Aes256Gcm>::try_from(&sealed[NUMBER_ENDS..NONCE_ENDS]);
    let opened = nonce.ok().and_then(|nonce| {
        let payload = Payload { msg: &sealed[NONCE_ENDS..], aad: &bound(number, of, name) };
        cipher.decrypt(&nonce, payload).ok()
    });
    let opened = opened.ok_or_else(|| {
        corrupt(format!(
            "does not open with the key {number}: it was changed, or sealed under another name or with another key of that number"
        ))
    })?;
    Ok(opened.into())
}

/// Returns the number of the key that sealed a value; `None` for one that is not sealed.
pub(super) fn key_of(sealed: &[u8]) -> Option<u32> {
    if sealed.len() < OVERHEAD || !sealed.starts_with(&MARK) {
        return None;
    }
    sealed[MARK.len()..NUMBER_ENDS].try_into().ok().map(u32::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> Key {
        Key::parse(name).unwrap()
    }

    #[test]
    fn what_is_sealed_opens_under_its_name_alone() {
        let keys = Keyring::new(7, [3; 32]);
        for value in [&b""[..], b"v", &[0xff; 5000]] {
            let sealed = seal(&keys, Of::Key, &name("a/b"), value).unwrap();
            assert_eq!(sealed.len(), value.len() + OVERHEAD);
            assert_eq!(key_of(&sealed), Some(7));
            assert_eq!(open(&keys, Of::Key, &name("a/b"), &sealed).unwrap(), value);
            for (of, other) in [(Of::Key, "a/c"), (Of::Key, "a"), (Of::Lock, "a/b")] {
                let error = open(&keys, of, &name(other), &sealed).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
            }
        }
    }

    #[test]
    fn no_bit_of_it_can_be_changed() {
        let keys = Keyring::new(1, [3; 32]);
        let sealed = seal(&keys, Of::Key, &name("a"), b"value").unwrap();
        for at in 0..sealed.len() * 8 {
            let mut changed = sealed.to_vec();
            changed[at / 8] ^= 1 << (at % 8);
            let error = open(&keys, Of::Key, &name("a"), &changed).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "bit {at}: {error}");
        }
        for length in 0..sealed.len() {
            assert!(open(&keys, Of::Key, &name("a"), &sealed[..length]).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn the_same_value_is_never_sealed_alike() {
        let keys = Keyring::new(1, [3; 32]);
        let once = seal(&keys, Of::Key, &name("a"), b"value").unwrap();
        assert_ne!(once, seal(&keys, Of::Key, &name("a"), b"value").unwrap());
    }

    #[test]
    fn another_key_of_the_same_number_opens_nothing() {
        let sealed = seal(&Keyring::new(1, [3; 32]), Of::Key, &name("a"), b"value").unwrap();
        let error = open(&Keyring::new(1, [4; 32]), Of::Key, &name("a"), &sealed).unwrap_err();
        assert!(error.to_string().contains("another key of that number"), "{error}");
        let error = open(&Keyring::new(2, [3; 32]), Of::Key, &name("a"), &sealed).unwrap_err();
        assert!(error.to_string().contains("the key 1, which the keyring does not have"), "{error}");
        let error = open(&Keyring::new(1, [3; 32]), Of::Key, &name("a"), b"plain").unwrap_err();
        assert!(error.to_string().contains("is not sealed"), "{error}");
    }
}
