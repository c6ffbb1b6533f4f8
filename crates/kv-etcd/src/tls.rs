//! The TLS settings, whose files are read again for every new connection.

use kv_core::{
    Result,
    backend::{TlsFiles, TlsSettings},
};
use std::{path::PathBuf, sync::Arc};
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

/// The settings as they were given.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tls {
    pub(crate) tls: Option<bool>,
    pub(crate) ca: Option<PathBuf>,
    pub(crate) cert: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
    pub(crate) server_name: Option<String>,
}

impl Tls {
    /// What they come to at this moment; `None` for plain text.
    pub(crate) fn read(&self) -> Result<Option<TlsFiles>> {
        let Self { tls, ca, cert, key, server_name } = self;
        TlsSettings {
            tls: *tls,
            ca: ca.as_deref(),
            cert: cert.as_deref(),
            key: key.as_deref(),
            server_name: server_name.as_deref(),
        }
        .read()
    }

    /// Whether the files hold something else by now. Those that cannot be read may be about to be replaced.
    pub(crate) async fn have_changed(self: &Arc<Self>, files: &Arc<TlsFiles>) -> bool {
        let (tls, files) = (self.clone(), files.clone());
        let changed = move || matches!(tls.read(), Ok(Some(now)) if now != *files);
        tokio::task::spawn_blocking(changed).await.unwrap_or_default()
    }
}

pub(crate) fn config(files: &TlsFiles) -> ClientTlsConfig {
    let TlsFiles { ca, identity, server_name } = files;
    let mut tls = ClientTlsConfig::new();
    tls = match ca {
        Some(ca) => tls.ca_certificate(Certificate::from_pem(ca.bytes())),
        None => tls.with_native_roots(),
    };
    if let Some((cert, key)) = identity {
        tls = tls.identity(Identity::from_pem(cert.bytes(), key.bytes()));
    }
    if let Some(name) = server_name {
        tls = tls.domain_name(name);
    }
    tls
}
