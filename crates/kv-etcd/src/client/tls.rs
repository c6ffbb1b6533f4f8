//! The TLS settings, whose files are read again for every new connection.

use kv_core::{
    Tls,
    backend::{self, tls::TlsFiles},
};
use std::sync::Arc;
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

/// Tells whether the files hold something else by now; `false` for files that cannot be read,
/// which may be about to be replaced.
pub(crate) async fn have_changed(settings: &Arc<Tls>, files: &Arc<TlsFiles>) -> bool {
    let (settings, files) = (settings.clone(), files.clone());
    let changed = move || matches!(backend::tls::read(&settings), Ok(Some(now)) if now != *files);
    tokio::task::spawn_blocking(changed).await.unwrap_or_default()
}

/// Returns the TLS settings of a channel, from these files.
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
