//! Says which of the store's nodes counts the creations of a key.

use kv_core::Key;

/// Creations are counted in so many nodes, by the hash of the key.
pub(crate) const SLOTS: usize = 16;

/// The slot that counts the creations of a key: the same one for all clients and for ever, so no hash of the process's own
/// but FNV-1a, stirred once more, since keys that differ in their last letters alone are close to one another in it.
pub(crate) fn slot(key: &Key) -> usize {
    let hash = key.as_str().bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let stirred = (hash ^ hash >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    (stirred >> 60) as usize % SLOTS
}
