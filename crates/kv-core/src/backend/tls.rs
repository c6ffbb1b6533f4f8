//! The settings of [`Tls`] as a backend reads them: from a URL, whether TLS is on, and the files
//! that they name.

use super::settings::{half, refused};
use crate::{Error, Result, StoreUrl, Tls};
use std::{
    fmt,
    path::{Path, PathBuf},
};

/// Takes the settings from a URL's parameters: `tls` (`true` or `false`), `ca`, `cert`, `key`,
/// `server_name`.
///
/// # Errors
/// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for a `tls` that is neither.
pub fn take(url: &mut StoreUrl) -> Result<Tls> {
    Ok(Tls {
        enabled: url.take("tls")?,
        ca: url.take("ca")?,
        cert: url.take("cert")?,
        key: url.take("key")?,
        server_name: url.take("server_name")?,
    })
}

/// Returns whether TLS was switched on or off by name; `None` where only the other settings tell.
pub fn switch(tls: &Tls) -> Option<bool> {
    tls.enabled
}

/// Returns the file of authorities that was [set](Tls::ca).
pub fn ca(tls: &Tls) -> Option<&Path> {
    tls.ca.as_deref()
}

/// Returns the name that was [set](Tls::server_name).
pub fn server_name(tls: &Tls) -> Option<&str> {
    tls.server_name.as_deref()
}

/// Returns whether TLS is asked for. It reads no file.
///
/// # Errors
/// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for settings that are half given or
/// contradict each other.
pub fn is_on(tls: &Tls) -> Result<bool> {
    let Tls { enabled, ca, cert, key, server_name } = tls;
    let others = [
        ("`ca`", ca.is_some()),
        ("`cert`", cert.is_some()),
        ("`key`", key.is_some()),
        ("`server_name`", server_name.is_some()),
    ];
    let given: Vec<_> = others.into_iter().filter_map(|(name, is_given)| is_given.then_some(name)).collect();
    match (enabled, cert, key) {
        (Some(false), ..) if !given.is_empty() => {
            let given = given.join(", ");
            Err(refused(format!("`tls` is off beside {given}; remove `tls=false`, or remove {given}")))
        }
        (_, Some(_), None) => Err(half("the TLS setting `cert` without `key`")),
        (_, None, Some(_)) => Err(half("the TLS setting `key` without `cert`")),
        (enabled, ..) => Ok(enabled.unwrap_or(!given.is_empty())),
    }
}

/// Reads the files as they are now; `None` for plain text.
///
/// # Errors
/// Those of [`is_on`], and [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for a file that
/// cannot be read, by its name.
///
/// ```
/// use kv_core::{ErrorKind, Tls, backend::tls};
///
/// assert!(tls::read(&Tls::default())?.is_none());
/// assert!(tls::read(&Tls::new())?.is_some());
/// let e = tls::read(&Tls::new().ca("/no/such")).unwrap_err();
/// assert_eq!(e.kind(), ErrorKind::InvalidArgument);
/// assert!(e.to_string().contains("`ca`: /no/such cannot be read"));
/// # Ok::<_, kv_core::Error>(())
/// ```
pub fn read(tls: &Tls) -> Result<Option<TlsFiles>> {
    if !is_on(tls)? {
        return Ok(None);
    }
    let identity = match (&tls.cert, &tls.key) {
        (Some(cert), Some(key)) => Some((Pem::read("cert", cert)?, Pem::read("key", key)?)),
        _ => None,
    };
    let ca = tls.ca.as_ref().map(|file| Pem::read("ca", file)).transpose()?;
    Ok(Some(TlsFiles { ca, identity, server_name: tls.server_name.clone() }))
}

/// The settings of TLS that is on, with the files that they name, as they were read. [`read`]
/// reads them again, and equality tells whether they have changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The authorities that are trusted; the system's roots where there are none.
    pub ca: Option<Pem>,
    /// Our own certificate, and its key.
    pub identity: Option<(Pem, Pem)>,
    /// The name that the server's certificate must have.
    pub server_name: Option<String>,
}

/// The content of a file that a TLS setting names. `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Pem {
    setting: &'static str,
    file: PathBuf,
    bytes: Vec<u8>,
}

impl Pem {
    fn read(setting: &'static str, file: &Path) -> Result<Self> {
        let bytes = std::fs::read(file).map_err(|e| {
            refused(format!("the TLS setting `{setting}`: {} cannot be read", file.display())).with_cause(e)
        })?;
        Ok(Self { setting, file: file.to_owned(), bytes })
    }

    /// Returns the content of the file.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the error for a file that holds something else. The parser's own words are left
    /// out, since they may show what it read.
    pub fn wrong(&self) -> Error {
        refused(format!("the TLS settings: {} is no PEM file for `{}`", self.file.display(), self.setting))
    }
}

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pem({} bytes of {})", self.bytes.len(), self.file.display())
    }
}

#[cfg(test)]
mod tests {
    use super::{read, take};
    use crate::{ErrorKind, StoreUrl, Tls};

    #[test]
    fn tls_is_off_on_or_refused() {
        let on = read(&Tls::new()).unwrap().unwrap();
        assert!(on.ca.is_none() && on.identity.is_none());
        assert!(read(&Tls::default().server_name("n")).unwrap().is_some());
        assert!(read(&Tls::from(false)).unwrap().is_none());
        let key_alone = Tls { key: Some("k".into()), ..Tls::default() };
        for (settings, says) in [
            (Tls::from(false).server_name("n"), "`tls` is off beside `server_name`"),
            (Tls::from(false).ca("c"), "beside `ca`; remove `tls=false`, or remove `ca`"),
            (
                Tls::from(false).ca("c").client_certificate("d", "k"),
                "remove `tls=false`, or remove `ca`, `cert`, `key`",
            ),
            (key_alone, "`key` without `cert`"),
            (Tls::default().ca("/no/such"), "/no/such cannot be read"),
        ] {
            let e = read(&settings).unwrap_err();
            assert!(e.kind() == ErrorKind::InvalidArgument && e.to_string().contains(says), "{e}");
        }
    }

    #[test]
    fn a_url_gives_all_of_them() {
        let mut url = StoreUrl::parse("x://h/?ca=a&cert=b&key=c&server_name=d").unwrap();
        let tls = Tls::default().ca("a").client_certificate("b", "c").server_name("d");
        assert_eq!(take(&mut url).unwrap(), tls);
        url.finish().unwrap();
    }
}
