//! One question to a server that speaks TLS.

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use std::{
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    sync::Arc,
};

/// Returns what the server answers a client with these certificates until the connection ends;
/// `None` when anything is in the way.
pub(crate) fn ask(stream: TcpStream, certificates: &Path, question: &[u8]) -> Option<String> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certificates.join("ca.pem")).ok()?).ok()?;
    let own = CertificateDer::from_pem_file(certificates.join("client.pem")).ok()?;
    let key = PrivateKeyDer::from_pem_file(certificates.join("client.key")).ok()?;
    let config =
        ClientConfig::builder().with_root_certificates(roots).with_client_auth_cert(vec![own], key).ok()?;
    let name = ServerName::try_from("localhost").ok()?;
    let connection = ClientConnection::new(Arc::new(config), name).ok()?;
    let mut stream = StreamOwned::new(connection, stream);
    stream.write_all(question).ok()?;
    let mut answer = Vec::new();
    // The server may end the connection without telling TLS so.
    let _ = stream.read_to_end(&mut answer);
    Some(String::from_utf8_lossy(&answer).into_owned())
}
