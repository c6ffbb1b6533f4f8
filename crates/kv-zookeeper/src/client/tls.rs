//! Reads the certificates of TLS.

use kv_core::{
    Error, ErrorKind, Result,
    backend::{
        Mutex,
        tls::{self, Pem, TlsFiles},
    },
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use std::sync::Arc;
use zookeeper_client::TlsOptions;

/// The certificate files of the settings. They are read again for every connection: certificates
/// are replaced while a program runs.
pub(crate) struct Certificates {
    settings: kv_core::Tls,
    now: Mutex<(TlsFiles, Tls)>,
}

impl Certificates {
    /// Reads the files; returns `None` for plain text.
    ///
    /// # Errors
    /// A setting is half given, or is one that the client does not know; or a file cannot be read,
    /// or holds something else.
    pub(crate) fn new(settings: kv_core::Tls) -> Result<Option<Self>> {
        if tls::server_name(&settings).is_some() {
            let why = "ZooKeeper's client checks certificates against the hosts alone; leave out `server_name`, and name \
                       the hosts as their certificates do";
            return Err(Error::new(ErrorKind::InvalidArgument, why));
        }
        if tls::is_on(&settings)? && tls::ca(&settings).is_none() {
            let why = "TLS without `ca`: nobody is trusted unless named; give both, or none of them";
            return Err(Error::new(ErrorKind::InvalidArgument, why));
        }
        let Some(files) = tls::read(&settings)? else { return Ok(None) };
        let tls = Tls::new(&files)?;
        Ok(Some(Self { settings, now: Mutex::new((files, tls)) }))
    }

    /// Returns the certificates as they are now. While the files are replaced and do not fit
    /// together, it returns those that were read before.
    pub(crate) fn now(&self) -> Tls {
        let mut now = self.now.lock();
        let changed = tls::read(&self.settings).map(|files| files.filter(|files| *files != now.0));
        match changed.and_then(|changed| changed.map(|files| Ok((Tls::new(&files)?, files))).transpose()) {
            Ok(Some((tls, files))) => *now = (files, tls),
            Ok(None) => {}
            Err(error) => tracing::debug!(%error, "the certificates as they were before"),
        }
        now.1.clone()
    }
}

#[derive(Clone)]
pub(crate) struct Tls {
    /// The options for the ZooKeeper client.
    options: TlsOptions,
    /// The same for a probe.
    pub(crate) config: Arc<ClientConfig>,
}

impl Tls {
    fn new(files: &TlsFiles) -> Result<Self> {
        let text = |pem: &Pem| String::from_utf8(pem.bytes().to_vec()).map_err(|_| pem.wrong());
        let mut options = TlsOptions::new();
        let mut roots = RootCertStore::empty();
        if let Some(ca) = &files.ca {
            options = options.with_pem_ca(&text(ca)?).map_err(|e| ca.wrong().with_cause(e))?;
            for certificate in CertificateDer::pem_slice_iter(ca.bytes()).flatten() {
                roots.add(certificate).map_err(|e| ca.wrong().with_cause(e))?;
            }
        }
        let config = ClientConfig::builder().with_root_certificates(roots);
        let config = match &files.identity {
            None => config.with_no_client_auth(),
            Some((cert, key)) => {
                let chain: Vec<_> = CertificateDer::pem_slice_iter(cert.bytes()).flatten().collect();
                if chain.is_empty() {
                    return Err(cert.wrong());
                }
                // The parser's own error may show what it read.
                let secret = PrivateKeyDer::from_pem_slice(key.bytes()).map_err(|_| key.wrong())?;
                options = options.with_pem_identity(&text(cert)?, &text(key)?).map_err(|_| key.wrong())?;
                config.with_client_auth_cert(chain, secret).map_err(|e| key.wrong().with_cause(e))?
            }
        };
        Ok(Self { options, config: Arc::new(config) })
    }

    pub(crate) fn options(&self) -> TlsOptions {
        self.options.clone()
    }
}
