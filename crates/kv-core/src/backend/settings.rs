//! Settings that backends have in common.

use crate::{Error, ErrorKind, Result, Secret, url::with_port};

pub(super) fn refused(why: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidArgument, why.into())
}

/// Returns the error for a setting that is given without its other half: `what` names both.
#[must_use]
pub fn half(what: &str) -> Error {
    refused(format!("{what}; give both, or none of them"))
}

/// Returns the addresses of a server's members, each with this port where it has none: `host`,
/// `host:port`, `[v6]` and `[v6]:port` are known.
///
/// # Errors
/// [`InvalidArgument`](ErrorKind::InvalidArgument) where there is no address at all; the message
/// shows a URL of this scheme.
///
/// ```
/// use kv_core::backend::addresses;
///
/// let endpoints = ["h1".to_owned(), "[::1]:80".to_owned()];
/// assert_eq!(addresses(&endpoints, "etcd", 2379)?, ["h1:2379", "[::1]:80"]);
/// assert!(addresses(&[], "etcd", 2379).unwrap_err().message().contains("etcd://host:2379/prefix"));
/// # Ok::<_, kv_core::Error>(())
/// ```
pub fn addresses(endpoints: &[String], scheme: &str, port: u16) -> Result<Vec<String>> {
    if endpoints.is_empty() {
        return Err(refused(format!("no host is given; a URL looks like {scheme}://host:{port}/prefix")));
    }
    Ok(endpoints.iter().map(|host| with_port(host, port)).collect())
}

/// Returns the bytes with which all names of a store begin: those of its `raw_prefix` as they are,
/// or the [directory](directory_prefix) that is its `prefix`. An empty `prefix` counts as none.
///
/// # Errors
/// [`InvalidArgument`](ErrorKind::InvalidArgument) where both are given.
///
/// ```
/// use kv_core::backend::whole_prefix;
///
/// assert_eq!(whole_prefix("app", None)?, "app/");
/// assert_eq!(whole_prefix("", Some("app:"))?, "app:");
/// assert!(whole_prefix("app", Some("app:")).is_err());
/// # Ok::<_, kv_core::Error>(())
/// ```
pub fn whole_prefix(prefix: &str, raw_prefix: Option<&str>) -> Result<String> {
    match raw_prefix {
        Some(_) if !prefix.is_empty() => Err(refused(
            "`prefix` and `raw_prefix` together; give one of them: `prefix` for a directory, or \
             `raw_prefix` for bytes as they are",
        )),
        Some(raw) => Ok(raw.to_owned()),
        None => Ok(directory_prefix(prefix)),
    }
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
            assert_eq!(addresses(&[host.to_owned()], "x", 7).unwrap(), [full]);
        }
    }

    #[test]
    fn a_prefix_is_given_in_one_way() {
        for (prefix, raw, whole) in [
            ("", None, Some("")),
            ("app", None, Some("app/")),
            ("", Some("app"), Some("app")),
            ("", Some(""), Some("")),
            ("app", Some("app"), None),
            ("app", Some(""), None),
        ] {
            assert_eq!(whole_prefix(prefix, raw).ok().as_deref(), whole, "{prefix:?}, {raw:?}");
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
