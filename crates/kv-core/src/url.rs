//! The URL of a store.

use crate::{Error, ErrorKind, Result, Secret};
use std::{fmt, str::FromStr};

const FORM: &str = "expected scheme://[user[:password]@]host[:port][,host[:port]…][/prefix][?name=value&…]";

/// The URL of a store: `etcd://user:password@h1:2379,h2:2379/prefix?ca=ca.pem`,
/// `redb:///path/to/file`, …
///
/// Several hosts are allowed. In every part, `%` and two hex digits stand for a byte. A backend
/// takes the parameters that it knows and then calls [`finish`](Self::finish), which refuses the
/// others by name. `Debug` and `Display` show no user, no password and no parameter's value.
///
/// ```
/// use kv_core::StoreUrl;
///
/// let mut url = StoreUrl::parse("etcd://me:s%40fe@h1:2379,[::1]:2379/app/?ttl=5")?;
/// assert_eq!(url.hosts(), ["h1:2379", "[::1]:2379"]);
/// assert_eq!(url.prefix(), "app/");
/// assert_eq!(url.password().map(|p| p.reveal()), Some("s@fe"));
/// assert_eq!(url.take::<u32>("ttl")?, Some(5));
/// url.finish()?;
///
/// let url = StoreUrl::parse("redb:///var/lib/app.redb?fsink=no")?;
/// assert_eq!(url.file(), "/var/lib/app.redb");
/// assert!(url.finish().unwrap_err().to_string().contains("fsink"));
/// # Ok::<(), kv_core::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct StoreUrl {
    scheme: String,
    user: Option<String>,
    password: Option<Secret>,
    authority: String,
    hosts: Vec<String>,
    path: String,
    parameters: Vec<(String, String)>,
    known: Vec<&'static str>,
    /// The URL as it was given, for serde alone.
    #[cfg(feature = "serde")]
    text: Secret,
}

impl StoreUrl {
    /// Reads a URL.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument), with the form that is expected and without
    /// the URL's own text, which may hold a password.
    pub fn parse(url: &str) -> Result<Self> {
        let refused =
            |why: &str| Error::new(ErrorKind::InvalidArgument, format!("a store's URL {why}; {FORM}"));
        let (scheme, rest) = url.split_once("://").ok_or_else(|| refused("has no `://`"))?;
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.');
        if scheme.is_empty() || !scheme.bytes().all(plain) {
            return Err(refused("begins with no scheme of letters, digits, `+`, `-` and `.`"));
        }
        if rest.contains('#') {
            return Err(refused("has a `#` (write %23 where it belongs to a name)"));
        }
        if has_torn_login(rest) {
            return Err(refused(
                "has a `/` or `?` before its `@`, as a password may (write %2F and %3F there, and %40 for an `@` behind the hosts)",
            ));
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (login, authority) =
            authority.rsplit_once('@').map_or((None, authority), |(login, hosts)| (Some(login), hosts));
        let text = |part: &str, what: &str| {
            decoded(part).ok_or_else(|| {
                refused(&format!("has a `%` without two hex digits, or no UTF-8, in its {what}"))
            })
        };
        let (user, password) = match login.map(|l| l.split_once(':').map_or((l, None), |(u, p)| (u, Some(p))))
        {
            Some((user, password)) => {
                let password = password.map(|p| text(p, "password")).transpose()?;
                (Some(text(user, "user")?), password.map(Secret::from))
            }
            None => (None, None),
        };
        let hosts = authority.split(',').filter(|_| !authority.is_empty());
        let hosts = hosts.map(|h| text(h, "hosts")).collect::<Result<Vec<_>>>()?;
        if hosts.iter().any(String::is_empty) {
            return Err(refused("has an empty host between its commas"));
        }
        let mut parameters: Vec<(String, String)> = Vec::new();
        for pair in query.split('&').filter(|p| !p.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (text(name, "parameters")?, text(value, "parameters")?);
            if parameters.iter().any(|(n, _)| *n == name) {
                return Err(refused(&format!("has the parameter {name:?} twice")));
            }
            parameters.push((name, value));
        }
        Ok(Self {
            scheme: scheme.to_ascii_lowercase(),
            user: user.filter(|u| !u.is_empty()),
            password,
            authority: text(authority, "hosts")?,
            hosts,
            path: text(path, "path")?,
            parameters,
            known: Vec::new(),
            #[cfg(feature = "serde")]
            text: Secret::new(url),
        })
    }

    /// Returns the part before `://`, in lower case.
    pub fn scheme(&self) -> &str {
        &self.scheme
    }

    /// Refuses, for backends, a URL of any scheme but these.
    ///
    /// ```
    /// use kv_core::StoreUrl;
    ///
    /// let e = StoreUrl::parse("etcd://h/app")?.expect(&["redis", "rediss"]).unwrap_err();
    /// assert_eq!(e.message(), r#""etcd" is not the scheme of this store, which is "redis" or "rediss""#);
    /// # Ok::<(), kv_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument), naming the scheme and those that are
    /// expected.
    pub fn expect(&self, schemes: &[&str]) -> Result<()> {
        if schemes.contains(&self.scheme()) {
            return Ok(());
        }
        let schemes: Vec<_> = schemes.iter().map(|scheme| format!("{scheme:?}")).collect();
        let schemes = schemes.join(" or ");
        let why = format!("{:?} is not the scheme of this store, which is {schemes}", self.scheme);
        Err(Error::new(ErrorKind::InvalidArgument, why))
    }

    /// Returns the user, where one is given.
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// Returns the password, where one is given.
    pub fn password(&self) -> Option<&Secret> {
        self.password.as_ref()
    }

    /// Returns the hosts with their ports, as given.
    pub fn hosts(&self) -> &[String] {
        &self.hosts
    }

    /// Returns the hosts, each with this port where it has none. IPv6 addresses stand in brackets.
    pub fn hosts_or(&self, port: u16) -> Vec<String> {
        self.hosts.iter().map(|host| with_port(host, port)).collect()
    }

    /// Returns, for stores on servers, the path without its first slash, decoded. It means the
    /// directory of that name: [`directory_prefix`](crate::backend::directory_prefix) adds the
    /// slash at its end where it is not given.
    pub fn prefix(&self) -> &str {
        self.path.strip_prefix('/').unwrap_or(&self.path)
    }

    /// Returns, for stores in files, all between `://` and `?`, so that `redb:///var/app.redb` is
    /// an absolute path and `redb://app.redb` one below the working directory.
    pub fn file(&self) -> String {
        format!("{}{}", self.authority, self.path)
    }

    /// Takes a parameter and returns its value; `None` where it is not given.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument), naming the parameter and its type, when it
    /// cannot be read.
    pub fn take<T: FromStr>(&mut self, parameter: &'static str) -> Result<Option<T>> {
        self.known.push(parameter);
        let Some(at) = self.parameters.iter().position(|(name, _)| name == parameter) else {
            return Ok(None);
        };
        let (_, value) = self.parameters.swap_remove(at);
        value.parse().map(Some).map_err(|_| {
            // The message leaves out the value, which may be a secret in the wrong place.
            Error::new(
                ErrorKind::InvalidArgument,
                format!("the parameter {parameter:?} of the {} URL must be {}", self.scheme, expected::<T>()),
            )
        })
    }

    /// Refuses a URL with parameters that were not taken.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) naming the first parameter that nobody
    /// took, and all that are known.
    pub fn finish(self) -> Result<()> {
        let Some((unknown, _)) = self.parameters.first() else { return Ok(()) };
        let known = if self.known.is_empty() { "none".to_owned() } else { self.known.join(", ") };
        Err(Error::new(
            ErrorKind::InvalidArgument,
            format!("unknown parameter {unknown:?} in the {} URL; known: {known}", self.scheme),
        ))
    }
}

/// Returns the address with this port, where it has none: `host`, `host:port`, `[v6]` and
/// `[v6]:port` are known.
pub(crate) fn with_port(host: &str, port: u16) -> String {
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| !port.contains(']'));
    if has_port { host.to_owned() } else { format!("{host}:{port}") }
}

/// Tells whether the part behind `://` reads as a login that is cut off by a `/` or `?` in it: the
/// text in front of the first of them has a `:` that begins no port, and an `@` comes behind.
fn has_torn_login(rest: &str) -> bool {
    let Some(end) = rest.find(['/', '?']) else { return false };
    let (front, behind) = rest.split_at(end);
    let is_port =
        |(_, port): (&str, &str)| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let is_host = |host: &str| host.starts_with('[') || host.rsplit_once(':').is_none_or(is_port);
    !front.contains('@') && behind.contains('@') && !front.split(',').all(is_host)
}

/// Describes in words a parameter of this type.
fn expected<T>() -> String {
    let kind = std::any::type_name::<T>();
    match kind {
        "bool" => "`true` or `false`".to_owned(),
        "u8" => format!("a whole number from 0 to {}", u8::MAX),
        "u16" => format!("a whole number from 0 to {}", u16::MAX),
        "u32" => format!("a whole number from 0 to {}", u32::MAX),
        "u64" | "usize" => "a whole number, 0 or more".to_owned(),
        "f64" => "a number".to_owned(),
        _ => format!("a {}", kind.rsplit("::").next().unwrap_or(kind)),
    }
}

/// Decodes bytes written as `%` and two hex digits; `None` where they are not well-formed, or give
/// no UTF-8.
fn decoded(text: &str) -> Option<String> {
    let (mut out, mut bytes) = (Vec::with_capacity(text.len()), text.bytes());
    let hex = |digit: u8| (digit as char).to_digit(16).map(|d| d as u8);
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => hex(bytes.next()?)? << 4 | hex(bytes.next()?)?,
            other => other,
        });
    }
    String::from_utf8(out).ok()
}

/// A type that can be given as the URL of a store: text, or a URL that was read already.
pub trait IntoStoreUrl {
    /// Returns the URL.
    ///
    /// # Errors
    /// Those of [`StoreUrl::parse`].
    fn into_store_url(self) -> Result<StoreUrl>;
}

impl IntoStoreUrl for StoreUrl {
    fn into_store_url(self) -> Result<StoreUrl> {
        Ok(self)
    }
}

impl IntoStoreUrl for &StoreUrl {
    fn into_store_url(self) -> Result<StoreUrl> {
        Ok(self.clone())
    }
}

impl IntoStoreUrl for &str {
    fn into_store_url(self) -> Result<StoreUrl> {
        StoreUrl::parse(self)
    }
}

impl IntoStoreUrl for &String {
    fn into_store_url(self) -> Result<StoreUrl> {
        StoreUrl::parse(self)
    }
}

impl IntoStoreUrl for String {
    fn into_store_url(self) -> Result<StoreUrl> {
        StoreUrl::parse(&self)
    }
}

impl TryFrom<&str> for StoreUrl {
    type Error = Error;
    fn try_from(url: &str) -> Result<Self> {
        Self::parse(url)
    }
}

impl TryFrom<String> for StoreUrl {
    type Error = Error;
    fn try_from(url: String) -> Result<Self> {
        Self::parse(&url)
    }
}

/// Writes the URL as it was given, password included, since it is to be kept where the settings
/// are.
#[cfg(feature = "serde")]
impl serde::Serialize for StoreUrl {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(self.text.reveal())
    }
}

#[cfg(feature = "serde")]
impl<'de> serde::Deserialize<'de> for StoreUrl {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(from)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

impl FromStr for StoreUrl {
    type Err = Error;
    fn from_str(url: &str) -> Result<Self> {
        Self::parse(url)
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let login = if self.user.is_some() || self.password.is_some() { "***@" } else { "" };
        write!(f, "{}://{login}{}{}", self.scheme, self.authority, self.path)?;
        for (n, (name, _)) in self.parameters.iter().enumerate() {
            write!(f, "{}{name}=***", if n == 0 { '?' } else { '&' })?;
        }
        Ok(())
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreUrl({self})")
    }
}
