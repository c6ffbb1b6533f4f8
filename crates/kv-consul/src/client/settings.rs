//! Reads the settings that are given in files, and reads them again when the other side says that
//! they are out of date.

use kv_core::{
    Error, ErrorKind, Result, Secret,
    backend::{self, tls::TlsFiles},
};
use reqwest::{Certificate, ClientBuilder, Identity, header::HeaderValue};
use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
};

fn refused(why: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidArgument, why.into())
}

/// Reads the files of these settings as they are now; `None` for plain text.
pub(crate) fn read_tls(settings: &kv_core::Tls) -> Result<Option<Arc<Tls>>> {
    read_tls_anew(settings, None)
}

/// Reads the files as they are now; `None` where they hold what `used` was made of, and for plain
/// text.
pub(crate) fn read_tls_anew(settings: &kv_core::Tls, used: Option<&Tls>) -> Result<Option<Arc<Tls>>> {
    let files = backend::tls::read(settings)?.filter(|files| used.is_none_or(|used| used.files != *files));
    files.map(|files| Tls::new(files).map(Arc::new)).transpose()
}

/// TLS, by what the files held when they were read.
pub(crate) struct Tls {
    files: TlsFiles,
    ca: Option<Vec<Certificate>>,
    identity: Option<Identity>,
}

impl PartialEq for Tls {
    fn eq(&self, other: &Self) -> bool {
        self.files == other.files
    }
}

impl Tls {
    fn new(files: TlsFiles) -> Result<Self> {
        let nonsense = |what: &str| refused(format!("the TLS settings make no sense: {what}"));
        let ca = files.ca.as_ref().map(|pem| match Certificate::from_pem_bundle(pem.bytes()) {
            Ok(all) if !all.is_empty() => Ok(all),
            _ => Err(pem.wrong()),
        });
        let identity = files.identity.as_ref().map(|(cert, key)| {
            let both = [cert.bytes(), b"\n", key.bytes()].concat();
            Identity::from_pem(&both)
                .map_err(|_| nonsense("`cert` and `key` are no certificate and its key in PEM"))
        });
        let (ca, identity) = (ca.transpose()?, identity.transpose()?);
        let name = files.server_name.as_deref();
        if name.is_some_and(|name| name.parse::<std::net::IpAddr>().is_ok() || name.is_empty()) {
            return Err(nonsense("`server_name` is the name of a host"));
        }
        let tls = Self { files, ca, identity };
        // Only the builder tells that a certificate and a key do not belong together.
        if tls.set(reqwest::Client::builder()).build().is_err() {
            return Err(nonsense("`cert` and `key` do not belong together, or `ca` is no authority"));
        }
        Ok(tls)
    }

    pub(crate) fn server_name(&self) -> Option<&str> {
        self.files.server_name.as_deref()
    }

    pub(crate) fn set(&self, builder: ClientBuilder) -> ClientBuilder {
        let mut builder = builder.tls_backend_rustls().https_only(true);
        if let Some(ca) = &self.ca {
            builder = builder.tls_certs_only(ca.clone());
        }
        if let Some(identity) = &self.identity {
            builder = builder.identity(identity.clone());
        }
        builder
    }
}

/// The ACL token: it is given, or is in a file that is written anew at each rotation.
pub(crate) struct Token {
    file: Option<PathBuf>,
    now: RwLock<Option<HeaderValue>>,
}

impl Token {
    pub(crate) fn new(given: Option<Secret>, file: Option<PathBuf>) -> Result<Self> {
        if given.is_some() && file.is_some() {
            return Err(refused("`token` and `token_file` are both given; give one of them"));
        }
        let now = match (&file, given) {
            (Some(file), _) => Some(read(file)?),
            (None, Some(token)) => Some(header(token.reveal(), "the `token`")?),
            (None, None) => None,
        };
        Ok(Self { file, now: RwLock::new(now) })
    }

    pub(crate) fn get(&self) -> Option<HeaderValue> {
        self.now.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the file again, and tells whether it holds another token now.
    pub(crate) fn renew(&self) -> bool {
        let Some(new) = self.file.as_ref().and_then(|file| read(file).ok()) else { return false };
        let mut now = self.now.write().unwrap_or_else(PoisonError::into_inner);
        let is_new = now.as_ref() != Some(&new);
        if is_new {
            *now = Some(new);
        }
        is_new
    }
}

fn read(file: &PathBuf) -> Result<HeaderValue> {
    let text = std::fs::read_to_string(file).map_err(|e| {
        refused(format!("the setting `token_file`: {} cannot be read", file.display())).with_cause(e)
    })?;
    let token = text.trim();
    if token.is_empty() {
        return Err(refused(format!("the setting `token_file`: {} is empty", file.display())));
    }
    header(token, "the file of `token_file`")
}

fn header(token: &str, what: &str) -> Result<HeaderValue> {
    let mut token = HeaderValue::from_str(token)
        .map_err(|_| refused(format!("{what} holds characters that no token has")))?;
    token.set_sensitive(true);
    Ok(token)
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({})", if self.get().is_some() { "given" } else { "none" })
    }
}
