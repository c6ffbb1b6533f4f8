//! A short digest of bytes: FNV-1a of 64 bits. It tells versions of settings apart, and finds
//! damage; it is no protection against somebody who wants two inputs to have one digest.

const BEGIN: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

/// The digest of the bytes that were added so far.
pub(crate) struct Digest(u64);

impl Digest {
    pub(crate) fn new() -> Self {
        Self(BEGIN)
    }

    pub(crate) fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(PRIME);
        }
    }

    /// Returns the digest in 16 hexadecimal digits.
    pub(crate) fn text(&self) -> String {
        format!("{:016x}", self.0)
    }

    /// Returns the digest of these bytes.
    pub(crate) fn of(bytes: &[u8]) -> String {
        let mut digest = Self::new();
        digest.add(bytes);
        digest.text()
    }
}

#[cfg(test)]
mod tests {
    use super::Digest;

    #[test]
    fn it_is_the_one_that_others_compute_too() {
        assert_eq!(Digest::of(b""), "cbf29ce484222325");
        assert_eq!(Digest::of(b"a"), "af63dc4c8601ec8c");
        assert_eq!(Digest::of(b"foobar"), "85944171f73967e8");
        let mut digest = Digest::new();
        digest.add(b"foo");
        digest.add(b"bar");
        assert_eq!(digest.text(), "85944171f73967e8");
    }
}
