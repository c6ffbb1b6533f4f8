//! Tells where the next page of a listing or of a deletion begins.

use kv_core::{Directory, Result, driver::Cursor};

/// The place at which a page begins.
pub(crate) struct PageToken {
    /// The number of keys to ask for.
    pub(crate) size: usize,
    pub(crate) start: String,
}

impl PageToken {
    fn of(cursor: &Cursor) -> Option<Self> {
        let (size, start) = cursor.as_bytes().split_first_chunk::<4>()?;
        let size = usize::try_from(u32::from_be_bytes(*size)).ok()?;
        Some(Self { size, start: std::str::from_utf8(start).ok()?.to_owned() })
    }

    pub(crate) fn cursor(&self) -> Cursor {
        let size = u32::try_from(self.size).unwrap_or(u32::MAX).to_be_bytes();
        Cursor::new([&size[..], self.start.as_bytes()].concat())
    }
}

/// Reads a cursor of this directory, if there is one.
pub(crate) fn page_token(from: Option<&Cursor>, directory: &Directory) -> Result<Option<PageToken>> {
    let is_below = |token: &PageToken| token.start.starts_with(&directory.start());
    from.map(|cursor| PageToken::of(cursor).filter(is_below).ok_or_else(Cursor::refused)).transpose()
}
