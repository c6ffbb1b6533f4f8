//! Writes and reads cursors: the place where the next page of a walk begins, the number of nodes
//! that it asks for, and the number of the walk, which is kept for a while.

use kv_core::{Directory, Result, driver::Cursor};

/// The most nodes that one page asks for.
pub(crate) const MOST: usize = 4096;

/// The content of a cursor.
pub(crate) struct Note {
    pub(crate) size: usize,
    /// The number of the walk that is kept; 0 where none is.
    pub(crate) walk: u64,
    /// The place behind which the page begins.
    pub(crate) after: String,
}

fn note(cursor: &Cursor) -> Option<Note> {
    let (size, rest) = cursor.as_bytes().split_first_chunk()?;
    let (walk, after) = rest.split_first_chunk()?;
    let size = (u32::from_be_bytes(*size) as usize).clamp(1, MOST);
    Some(Note { size, walk: u64::from_be_bytes(*walk), after: String::from_utf8(after.to_vec()).ok()? })
}

/// Returns the cursor of this content.
pub(crate) fn cursor(note: &Note) -> Cursor {
    let size = u32::try_from(note.size).unwrap_or(u32::MAX).to_be_bytes();
    Cursor::new([&size[..], &note.walk.to_be_bytes(), note.after.as_bytes()].concat())
}

/// Reads a cursor; refuses one of another directory.
pub(crate) fn place(from: Option<&Cursor>, directory: &Directory) -> Result<Option<Note>> {
    let is_below = |note: &Note| note.after.starts_with(&directory.start());
    from.map(|cursor| note(cursor).filter(is_below).ok_or_else(Cursor::refused)).transpose()
}
