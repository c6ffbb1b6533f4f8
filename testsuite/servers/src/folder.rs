//! The folder in which servers lie.

use crate::{error::Error, kinds::Kind};
use std::{
    env,
    path::{Path, PathBuf},
};

/// The folder into which servers are fetched: `KIND/bin/…` has the programs, `run/` the servers
/// that were started.
#[derive(Clone, Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// Returns the folder that `KV_SERVERS_DIR` names, or `.servers/` of the repository without
    /// it. A relative path starts at `base`.
    #[must_use]
    pub fn from_env(base: &Path) -> Self {
        let named = env::var_os("KV_SERVERS_DIR").filter(|named| !named.is_empty());
        Self(named.map_or_else(|| repository().join(".servers"), |named| base.join(named)))
    }

    /// Returns the path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Returns the folder of a kind.
    #[must_use]
    pub fn of(&self, kind: &Kind) -> PathBuf {
        self.0.join(kind.name)
    }

    /// Returns the path of a kind's server, or of a tool.
    ///
    /// # Errors
    /// It was not fetched; the message names the command that does.
    pub fn server(&self, kind: &Kind) -> Result<PathBuf, Error> {
        self.program(kind, kind.server)
    }

    /// Returns the path of a kind's command-line client.
    ///
    /// # Errors
    /// It was not fetched, or the kind has none.
    pub fn client(&self, kind: &Kind) -> Result<PathBuf, Error> {
        let name = kind.client.ok_or_else(|| Error::misuse(format!("{} has no client", kind.name)))?;
        self.program(kind, name)
    }

    fn program(&self, kind: &Kind, name: &str) -> Result<PathBuf, Error> {
        let path = self.of(kind).join("bin").join(name);
        match path.exists() {
            true => Ok(path),
            false => Err(Error::new(format!("{} is not there; to have it: ci/servers get {0}", kind.name))),
        }
    }
}

/// Returns the root of the repository, as it was when this was built.
pub(crate) fn repository() -> &'static Path {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.ancestors().nth(2).unwrap_or(own)
}
