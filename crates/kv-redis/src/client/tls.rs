//! TLS of connections. The files of the settings are read again for every new connection.

use fred::types::config::TlsConnector;
use kv_core::{
    Error, ErrorKind, Result, Tls,
    backend::{
        self, Mutex,
        tls::{Pem, TlsFiles},
    },
};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use std::{fmt, sync::Arc};

/// Makes TLS connectors. Certificates that were renewed on the disk are used from the next
/// connection on.
pub(crate) struct Connectors {
    settings: Tls,
    last: Mutex<(TlsFiles, TlsConnector)>,
}

impl Connectors {
    /// Reads the files; returns `None` for plain text.
    pub(crate) fn new(settings: Tls) -> Result<Option<Arc<Self>>> {
        let Some(files) = backend::tls::read(&settings)? else { return Ok(None) };
        let connector = connector(&files)?;
        Ok(Some(Arc::new(Self { settings, last: Mutex::new((files, connector)) })))
    }

    /// Returns the name that the server's certificate must have, if one is set.
    pub(crate) fn server_name(&self) -> Option<&str> {
        backend::tls::server_name(&self.settings)
    }

    /// Returns a connector that uses the files as they are now. While files are replaced, they may
    /// be missing or not fit together: then the connector uses those that were read last.
    pub(crate) fn connector(&self) -> TlsConnector {
        let mut last = self.last.lock();
        let read = backend::tls::read(&self.settings).and_then(|files| match files {
            Some(files) if files != last.0 => connector(&files).map(|connector| Some((files, connector))),
            _ => Ok(None),
        });
        match read {
            Ok(Some(new)) => *last = new,
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "the TLS files cannot be used; the last ones are used"),
        }
        last.1.clone()
    }
}

impl fmt::Debug for Connectors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connectors({:?})", self.settings)
    }
}

fn connector(TlsFiles { ca, identity, .. }: &TlsFiles) -> Result<TlsConnector> {
    let wrong = |e: rustls::Error| {
        Error::new(ErrorKind::InvalidArgument, "the TLS settings make no sense").with_cause(e)
    };
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(wrong)?
        .with_root_certificates(roots(ca.as_ref())?);
    let config = match identity {
        Some((cert, key)) => {
            // The parser's own error may show what it read.
            let secret = PrivateKeyDer::from_pem_slice(key.bytes()).map_err(|_| key.wrong())?;
            builder.with_client_auth_cert(certificates(cert)?, secret).map_err(wrong)?
        }
        None => builder.with_no_client_auth(),
    };
    Ok(TlsConnector::from(config))
}

fn roots(ca: Option<&Pem>) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(ca) => {
            for certificate in certificates(ca)? {
                roots.add(certificate).map_err(|e| ca.wrong().with_cause(e))?;
            }
        }
        None => {
            // Roots of the system that cannot be read are left out.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    Ok(roots)
}

fn certificates(pem: &Pem) -> Result<Vec<CertificateDer<'static>>> {
    let found = CertificateDer::pem_slice_iter(pem.bytes()).collect::<Result<Vec<_>, _>>();
    found.ok().filter(|found| !found.is_empty()).ok_or_else(|| pem.wrong())
}
