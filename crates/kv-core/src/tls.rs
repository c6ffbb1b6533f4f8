//! The TLS settings of a store.

use std::path::PathBuf;

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
/// A configuration that is read with serde has `"tls": {"ca": "/etc/app/ca.pem"}`. In URLs the
/// settings are the parameters `tls`, `ca`, `cert`, `key` and `server_name`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
#[must_use = "settings do nothing by themselves"]
pub struct Tls {
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub(crate) enabled: Option<bool>,
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub(crate) ca: Option<PathBuf>,
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub(crate) cert: Option<PathBuf>,
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub(crate) key: Option<PathBuf>,
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub(crate) server_name: Option<String>,
}

impl Tls {
    /// Returns the settings of TLS with the system's roots and without a certificate of our own.
    pub fn new() -> Self {
        Self::from(true)
    }

    /// Sets whether TLS is spoken. Without this, it is spoken when one of the other settings is
    /// given; to switch it off beside them is refused when the store is opened.
    pub fn enabled(self, enabled: bool) -> Self {
        Self { enabled: Some(enabled), ..self }
    }

    /// Sets the file of the authorities that may have signed the servers' certificates, in place
    /// of the system's.
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
}

/// Makes [`Tls::new`] of `true`, and plain text of `false`.
impl From<bool> for Tls {
    fn from(enabled: bool) -> Self {
        Self { enabled: Some(enabled), ..Self::default() }
    }
}

#[cfg(all(test, feature = "serde"))]
mod tests {
    use super::Tls;

    #[test]
    fn settings_come_back_as_they_were_written() {
        let tls = Tls::new().ca("ca.pem").client_certificate("c.pem", "c.key");
        let written = serde_json::to_string(&tls).unwrap();
        assert_eq!(written, r#"{"enabled":true,"ca":"ca.pem","cert":"c.pem","key":"c.key"}"#);
        assert_eq!(serde_json::from_str::<Tls>(&written).unwrap(), tls);
    }
}
