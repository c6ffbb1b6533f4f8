//! Settings that the backends of servers have in common.

use crate::{Error, ErrorKind, Result, Secret};

pub(super) fn refused(why: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidArgument, why.into())
}

/// Returns the error for a setting that is given without its other half: `what` names both.
#[must_use]
pub fn half(what: &str) -> Error {
    refused(format!("{what}; give both, or none of them"))
}

/// Returns the address with this port, where it has none: `host`, `host:port`, `[v6]` and
/// `[v6]:port` are known.
///
/// ```
/// use kv_core::backend::with_port;
///
/// assert_eq!(with_port("h1", 2379), "h1:2379");
/// assert_eq!(with_port("[::1]:80", 2379), "[::1]:80");
/// ```
#[must_use]
pub fn with_port(host: &str, port: u16) -> String {
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| !port.contains(']'));
    if has_port { host.to_owned() } else { format!("{host}:{port}") }
}

/// Returns the prefix that means the directory of this name: with the slash that it lacks, unless
/// it is empty.
///
/// ```
/// use kv_core::backend::directory_prefix;
///
/// assert_eq!(directory_prefix("app"), "app/");
/// assert_eq!(directory_prefix("app/"), "app/");
/// assert_eq!(directory_prefix(""), "");
/// ```
#[must_use]
pub fn directory_prefix(prefix: impl Into<String>) -> String {
    let mut prefix = prefix.into();
    if !prefix.is_empty() && !prefix.ends_with('/') {
        prefix.push('/');
    }
    prefix
}

/// Returns a user and a password, or none of them.
///
/// # Errors
/// [`InvalidArgument`](ErrorKind::InvalidArgument) where one is given without the other.
pub fn login(user: Option<&str>, password: Option<&Secret>) -> Result<Option<(String, Secret)>> {
    match (user, password) {
        (Some(user), Some(password)) => Ok(Some((user.to_owned(), password.clone()))),
        (None, None) => Ok(None),
        (Some(_), None) => Err(half("a user without a password")),
        (None, Some(_)) => Err(half("a password without a user")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_keeps_its_port() {
        for (host, full) in [("h", "h:7"), ("h:1", "h:1"), ("[::1]", "[::1]:7"), ("[::1]:1", "[::1]:1")] {
            assert_eq!(with_port(host, 7), full);
        }
    }

    #[test]
    fn a_login_is_whole_or_none() {
        let password = Secret::from("hush".to_owned());
        assert!(login(None, None).unwrap().is_none());
        assert_eq!(login(Some("me"), Some(&password)).unwrap().unwrap().0, "me");
        for half in [login(Some("me"), None), login(None, Some(&password))] {
            let e = half.unwrap_err();
            assert_eq!(e.kind(), ErrorKind::InvalidArgument);
            assert!(!e.to_string().contains("hush"));
        }
    }
}
