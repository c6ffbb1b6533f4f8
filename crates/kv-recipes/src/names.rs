//! The names below which a recipe keeps what it writes.

use kv_core::{Error, Key, Kv, Result, backend::unique};

/// Returns the key of this name below the recipe's own.
pub(crate) fn below(name: &Key, rest: &str) -> Result<Key> {
    name.as_directory().join(&Key::parse(rest)?)
}

/// Returns an id that nobody else has, which is a segment of a key too.
pub(crate) fn new_id() -> String {
    format!("{:016x}", unique())
}

/// Adds to an error which recipe of which name failed, unless a call of the handle said more.
#[cold]
pub(crate) fn in_recipe(error: Error, kv: &Kv, recipe: &'static str, name: Option<&Key>) -> Error {
    error.in_call(recipe, kv.capabilities().backend, name.map(Key::as_str))
}
