//! The URL under which a harness opens its stores.

use crate::Failure;
use kv_core::StoreUrl;
use std::net::{SocketAddr, ToSocketAddrs};

/// The URL of the server under test, which the test started or which is a live one. The suite's
/// prefixes are put behind the URL's path.
///
/// ```
/// # fn main() -> Result<(), kv_testsuite::Failure> {
/// use kv_testsuite::Base;
///
/// let base = Base::new("etcd://127.0.0.1:2379/apps/?tls=true")?;
/// assert_eq!(base.with_prefix("case1/"), "etcd://127.0.0.1:2379/apps/case1/?tls=true");
/// assert_eq!(base.name_of("case1/key"), "apps/case1/key");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Base {
    url: String,
    parsed: StoreUrl,
}

impl Base {
    /// Makes a base of this URL, which ends, but for its parameters, with a slash.
    ///
    /// # Errors
    /// `url` is no URL of a store, or its path does not end with a slash, so that a prefix would
    /// run into it.
    pub fn new(url: impl Into<String>) -> Result<Self, Failure> {
        let url = url.into();
        let parsed = StoreUrl::parse(&url)?;
        let path = url.split_once('?').map_or(url.as_str(), |(path, _)| path);
        if !path.ends_with('/') {
            return Err(format!(
                "{parsed}: let its path end with a slash; the suite puts its own prefix behind it"
            )
            .into());
        }
        Ok(Self { url, parsed })
    }

    /// Returns the live server that this variable of the environment names; `None` if the variable
    /// is not set, so that the tests start a server of their own.
    ///
    /// # Errors
    /// Those of [`new`](Self::new), with the variable's name.
    pub fn live(variable: &str) -> Result<Option<Self>, Failure> {
        let Ok(url) = std::env::var(variable) else { return Ok(None) };
        Self::new(url).map(Some).map_err(|e| format!("{variable}: {e}").into())
    }

    /// Returns the URL with this prefix.
    #[must_use]
    pub fn with_prefix(&self, prefix: &str) -> String {
        match self.url.split_once('?') {
            Some((path, parameters)) => format!("{path}{prefix}?{parameters}"),
            None => format!("{}{prefix}", self.url),
        }
    }

    /// Returns the name under which the server has the key: the URL's own prefix, then the key.
    #[must_use]
    pub fn name_of(&self, key: &str) -> String {
        format!("{}{key}", self.parsed.prefix())
    }

    /// Tells whether the URL has neither a user nor parameters: then tests can speak to the server
    /// without the library, and through a proxy.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.parsed.user().is_none() && !self.url.contains('?')
    }

    /// Returns the first address of the URL's first host, with this port where the URL names none.
    /// `None` where there is no host, or its name cannot be resolved.
    #[must_use]
    pub fn address(&self, port: u16) -> Option<SocketAddr> {
        self.parsed.hosts_or(port).first()?.to_socket_addrs().ok()?.next()
    }

    /// Returns the URL without secrets, for messages.
    #[must_use]
    pub fn shown(&self) -> String {
        self.parsed.to_string()
    }
}
