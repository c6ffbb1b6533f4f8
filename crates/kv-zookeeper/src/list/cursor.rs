//! Writes and reads cursors: the place where the next page of a walk begins, and the number of
//! nodes that it asks for.

use kv_core::{Directory, Result, driver::Cursor};

/// The most nodes that one page asks for.
pub(crate) const MOST: usize = 4096;

fn note(cursor: &Cursor) -> Option<(usize, String)> {
    let (size, place) = cursor.as_bytes().split_at_checked(4)?;
    let size = u32::from_be_bytes(size.try_into().ok()?) as usize;
    Some((size.clamp(1, MOST), String::from_utf8(place.to_vec()).ok()?))
}

/// Returns the cursor of the page that begins behind this place.
pub(crate) fn cursor(size: usize, after: &str) -> Cursor {
    let size = u32::try_from(size).unwrap_or(u32::MAX).to_be_bytes();
    Cursor::new([&size[..], after.as_bytes()].concat())
}

/// Returns the number of nodes to ask for, and the place below this directory behind which to
/// begin.
pub(crate) fn place(from: Option<&Cursor>, directory: &Directory) -> Result<Option<(usize, String)>> {
    let is_below = |(_, place): &(usize, String)| place.starts_with(&directory.start());
    from.map(|cursor| note(cursor).filter(is_below).ok_or_else(Cursor::refused)).transpose()
}
