//! How a store's servers are trusted, and trust us.

use crate::{
    Result, StoreUrl,
    backend::{Pem, TlsFiles, half},
};
use std::path::{Path, PathBuf};

/// The TLS settings of a store: whom it trusts, and who it is. All backends of servers take the
/// same.
///
/// `Tls::default()` is plain text, until one of the settings is given; `Tls::new()` is TLS by
/// itself, which trusts whom the system trusts. The files are PEM files. They are read when the
/// store is opened and again later, so that certificates can be replaced under an open store.
/// Nothing here is secret: it names files.
///
/// ```no_run
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
/// # struct Config;
/// # impl Config {
/// #     fn new<const N: usize>(_: [&str; N]) -> Self { Self }
/// #     fn tls(self, _: Tls) -> Self { self }
/// #     async fn open(self) -> kv_core::Result<kv_core::Kv> { kv_memory::open("memory://").await }
/// # }
/// use kv_core::Tls;
///
/// let tls = Tls::new().ca("/etc/app/ca.pem").client_certificate("/etc/app/me.pem", "/etc/app/me.key");
/// let kv = Config::new(["h1", "h2"]).tls(tls).open().await?;
/// # kv.close().await }
/// ```
///
/// In a configuration that is read with serde: `"tls": {"ca": "/etc/app/ca.pem"}`; in URLs the
/// parameters `tls`, `ca`, `cert`, `key` and `server_name`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
#[must_use = "settings do nothing by themselves"]
pub struct Tls {
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    enabled: Option<bool>,
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    ca: Option<PathBuf>,
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    cert: Option<PathBuf>,
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    key: Option<PathBuf>,
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    server_name: Option<String>,
}

impl Tls {
    /// Returns the settings of TLS with the system's roots and without a certificate of our own.
    pub fn new() -> Self {
        Self::from(true)
    }

    /// Sets whether TLS is spoken. It is by itself when one of the other settings is given; to
    /// switch it off beside them is refused when the store is opened.
    pub fn enabled(self, enabled: bool) -> Self {
        Self { enabled: Some(enabled), ..self }
    }

    /// Sets the file of the authorities that may have signed the servers' certificates, in place of
    /// the system's.
    pub fn ca(self, file: impl Into<PathBuf>) -> Self {
        Self { ca: Some(file.into()), ..self }
    }

    /// Sets the files of our own certificate and of its key.
    pub fn client_certificate(self, cert: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        Self { cert: Some(cert.into()), key: Some(key.into()), ..self }
    }

    /// Sets the name that the servers' certificates must have, where it is not the one of their
    /// addresses. ZooKeeper's client knows no such setting, and refuses it.
    pub fn server_name(self, name: impl Into<String>) -> Self {
        Self { server_name: Some(name.into()), ..self }
    }

    /// Takes the settings from a URL's parameters: `tls` (`true` or `false`), `ca`, `cert`, `key`,
    /// `server_name`. For backends.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for a `tls` that is neither.
    pub fn take(url: &mut StoreUrl) -> Result<Self> {
        Ok(Self {
            enabled: url.take("tls")?,
            ca: url.take("ca")?,
            cert: url.take("cert")?,
            key: url.take("key")?,
            server_name: url.take("server_name")?,
        })
    }

    /// Returns whether TLS was switched on or off by name. For backends.
    pub fn switch(&self) -> Option<bool> {
        self.enabled
    }

    /// Returns the file of authorities that was [set](Self::ca). For backends.
    pub fn ca_file(&self) -> Option<&Path> {
        self.ca.as_deref()
    }

    /// Returns the name that was [set](Self::server_name). For backends.
    pub fn name(&self) -> Option<&str> {
        self.server_name.as_deref()
    }

    /// Returns whether TLS is asked for. Reads nothing. For backends.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for settings that are half given or
    /// contradict each other.
    pub fn is_on(&self) -> Result<bool> {
        let Self { enabled, ca, cert, key, server_name } = self;
        let is_given = ca.is_some() || cert.is_some() || key.is_some() || server_name.is_some();
        match (enabled, cert, key) {
            (Some(false), ..) if is_given => {
                Err(half("`tls` is off, yet `ca`, `cert`, `key` or `server_name` is given"))
            }
            (_, Some(_), None) => Err(half("the TLS setting `cert` without `key`")),
            (_, None, Some(_)) => Err(half("the TLS setting `key` without `cert`")),
            (enabled, ..) => Ok(enabled.unwrap_or(is_given)),
        }
    }

    /// Reads the files as they are now; `None` for plain text. For backends.
    ///
    /// # Errors
    /// Those of [`is_on`](Self::is_on), and [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for a
    /// file that cannot be read, by its name.
    ///
    /// ```
    /// use kv_core::{ErrorKind, Tls};
    ///
    /// assert!(Tls::default().read()?.is_none());
    /// assert!(Tls::new().read()?.is_some());
    /// let e = Tls::new().ca("/no/such").read().unwrap_err();
    /// assert_eq!(e.kind(), ErrorKind::InvalidArgument);
    /// assert!(e.to_string().contains("`ca`: /no/such cannot be read"));
    /// # Ok::<_, kv_core::Error>(())
    /// ```
    pub fn read(&self) -> Result<Option<TlsFiles>> {
        if !self.is_on()? {
            return Ok(None);
        }
        let identity = match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => Some((Pem::read("cert", cert)?, Pem::read("key", key)?)),
            _ => None,
        };
        let ca = self.ca.as_ref().map(|file| Pem::read("ca", file)).transpose()?;
        Ok(Some(TlsFiles { ca, identity, server_name: self.server_name.clone() }))
    }
}

/// `true` is [`Tls::new`], `false` is plain text.
impl From<bool> for Tls {
    fn from(enabled: bool) -> Self {
        Self { enabled: Some(enabled), ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn tls_is_off_on_or_refused() {
        let on = Tls::new().read().unwrap().unwrap();
        assert!(on.ca.is_none() && on.identity.is_none());
        assert!(Tls::default().server_name("n").read().unwrap().is_some());
        assert!(Tls::from(false).read().unwrap().is_none());
        let key_alone = Tls { key: Some("k".into()), ..Tls::default() };
        for (settings, says) in [
            (Tls::from(false).server_name("n"), "`tls` is off"),
            (key_alone, "`key` without `cert`"),
            (Tls::default().ca("/no/such"), "/no/such cannot be read"),
        ] {
            let e = settings.read().unwrap_err();
            assert!(e.kind() == ErrorKind::InvalidArgument && e.to_string().contains(says), "{e}");
        }
    }

    #[test]
    fn a_url_gives_all_of_them() {
        let mut url = StoreUrl::parse("x://h/?ca=a&cert=b&key=c&server_name=d").unwrap();
        let tls = Tls::default().ca("a").client_certificate("b", "c").server_name("d");
        assert_eq!(Tls::take(&mut url).unwrap(), tls);
        url.finish().unwrap();
    }

    #[test]
    #[cfg(feature = "serde")]
    fn settings_come_back_as_they_were_written() {
        let tls = Tls::new().ca("ca.pem").client_certificate("c.pem", "c.key");
        let written = serde_json::to_string(&tls).unwrap();
        assert_eq!(written, r#"{"enabled":true,"ca":"ca.pem","cert":"c.pem","key":"c.key"}"#);
        assert_eq!(serde_json::from_str::<Tls>(&written).unwrap(), tls);
    }
}
