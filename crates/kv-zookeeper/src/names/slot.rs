//! Chooses the node of the store that counts the creations of a key, and tells the nodes beside it.

use kv_core::Key;

/// The number of nodes that count creations; a key has one of them by its hash.
pub(crate) const SLOTS: usize = 16;

/// Returns the slot that counts the creations of a key. It must be the same for all clients and
/// for ever, so the hash is FNV-1a and not one of the process's own. It is stirred once more,
/// since keys that differ in their last letters alone have FNV-1a hashes close to one another.
pub(crate) fn slot(key: &Key) -> usize {
    let hash = key.as_str().bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let stirred = (hash ^ hash >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    (stirred >> 60) as usize % SLOTS
}

/// Returns the slots, and the incarnations, among the nodes that lie beside each other.
pub(crate) fn found(names: &[String]) -> ([bool; SLOTS], Vec<u128>) {
    let (mut slots, mut incarnations) = ([false; SLOTS], Vec::new());
    for name in names {
        match u128::from_str_radix(name, 16) {
            Ok(slot) if *name == format!("{slot:x}") && slot < SLOTS as u128 => slots[slot as usize] = true,
            Ok(incarnation) if *name == format!("{incarnation:032x}") => incarnations.push(incarnation),
            _ => {}
        }
    }
    (slots, incarnations)
}
