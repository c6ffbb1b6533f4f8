//! The names that a listing leaves out.

use crate::backend::Mutex;
use std::sync::Arc;

/// The names that a listing leaves out: the server has them below the directory, and they are no keys
/// of this library. [`List::tell_left_out`](crate::List::tell_left_out) asks for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeftOut {
    /// Counts the names. What lies in a directory that no key can lie in counts once, where the
    /// server need not be asked for it.
    pub count: u64,
    /// Counts those of them that [`Kv::adopt`](crate::Kv::adopt) would bring into listings.
    pub adoptable: u64,
    /// The first names, [`NAMES`](Self::NAMES) at most, whole as the server has them. A byte that is no
    /// UTF-8 is a replacement character.
    pub names: Vec<String>,
}

impl LeftOut {
    /// The most names that are told.
    pub const NAMES: usize = 10;
}

/// Notes the names that a listing leaves out, over all its pages: for backends. Nothing is
/// noted where nobody has asked for it.
///
/// A backend notes what it has read anyway, each name once in a listing. Where a name is seen only
/// by further requests, it makes them only if it [is wanted](Self::is_wanted).
#[derive(Clone, Debug, Default)]
pub struct NotesLeftOut(Option<Arc<Mutex<LeftOut>>>);

impl NotesLeftOut {
    /// Makes notes that are wanted.
    ///
    /// ```
    /// use kv_core::driver::NotesLeftOut;
    ///
    /// let notes = NotesLeftOut::wanted();
    /// notes.note("app/");
    /// notes.note(b"app/\xff");
    /// notes.adoptable("app/color");
    /// notes.unnamed(2);
    /// let noted = notes.noted();
    /// assert_eq!((noted.count, noted.adoptable), (5, 1));
    /// assert_eq!(noted.names, ["app/", "app/\u{fffd}", "app/color"]);
    /// ```
    #[must_use]
    pub fn wanted() -> Self {
        Self(Some(Arc::default()))
    }

    /// Tells whether anybody wants to know.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.0.is_some()
    }

    /// Notes a name, whole as the server has it.
    pub fn note(&self, name: impl AsRef<[u8]>) {
        self.add(1, 0, Some(name.as_ref()));
    }

    /// Notes the name of a key that is listed once it is adopted.
    pub fn adoptable(&self, name: impl AsRef<[u8]>) {
        self.add(1, 1, Some(name.as_ref()));
    }

    /// Notes names that the server has counted and not told.
    pub fn unnamed(&self, count: u64) {
        self.add(count, 0, None);
    }

    /// Returns what was noted so far.
    #[must_use]
    pub fn noted(&self) -> LeftOut {
        self.0.as_ref().map(|notes| notes.lock().clone()).unwrap_or_default()
    }

    fn add(&self, count: u64, adoptable: u64, name: Option<&[u8]>) {
        let Some(notes) = &self.0 else { return };
        let mut notes = notes.lock();
        notes.count += count;
        notes.adoptable += adoptable;
        if let Some(name) = name.filter(|_| notes.names.len() < LeftOut::NAMES) {
            notes.names.push(String::from_utf8_lossy(name).into_owned());
        }
    }
}
