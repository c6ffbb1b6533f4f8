//! A look at one host with the server's own `srvr`: which version it is, whether it leads, and what is wrong with TLS, of
//! which the client says nothing.

use crate::session::Limits;
use kv_core::{Deadline, Error, ErrorKind, Result, backend::Pem};
use rustls::{
    ClientConfig, Error as TlsError, InvalidMessage, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use std::{io, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;
use zookeeper_client::TlsOptions;

/// How servers and we prove who we are.
#[derive(Clone)]
pub(crate) struct Tls {
    /// For the client of ZooKeeper.
    options: TlsOptions,
    /// The same for a look.
    config: Arc<ClientConfig>,
}

impl Tls {
    pub(crate) fn new(ca: &Pem, identity: Option<&(Pem, Pem)>) -> Result<Self> {
        let text = |pem: &Pem| String::from_utf8(pem.bytes().to_vec()).map_err(|_| pem.wrong());
        let mut options = TlsOptions::new().with_pem_ca(&text(ca)?).map_err(|e| ca.wrong().with_cause(e))?;
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(ca.bytes()).flatten() {
            roots.add(certificate).map_err(|e| ca.wrong().with_cause(e))?;
        }
        let config = ClientConfig::builder().with_root_certificates(roots);
        let config = match identity {
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

/// What a host says of itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Probe {
    /// Empty where the server's whitelist keeps `srvr` to itself.
    pub(crate) version: String,
    /// `leader`, `follower`, `observer` or `standalone`.
    pub(crate) mode: String,
}

/// Asks one host. An error that is not transient is one that no other attempt mends.
pub(crate) async fn probe(host: &str, tls: Option<&Tls>, deadline: Deadline) -> Result<Probe> {
    let server = tls.map(|_| name(host)).transpose()?;
    let ask = async {
        let stream = TcpStream::connect(host).await?;
        match (tls, server) {
            (Some(tls), Some(server)) => {
                ask(TlsConnector::from(tls.config.clone()).connect(server, stream).await?).await
            }
            _ => ask(stream).await,
        }
    };
    let answer = match deadline.limit(ask).await {
        Some(answer) => answer.map_err(|e| of_io(host, tls.is_some(), e))?,
        None => {
            // A port that speaks TLS alone waits for more of it.
            let hint = if tls.is_none() { "; if it speaks TLS alone, give `ca`" } else { "" };
            let why = format!("{host} does not answer within {:?}{hint}", deadline.within());
            return Err(Error::new(ErrorKind::Timeout, why));
        }
    };
    let field = |name: &str| {
        answer.lines().find_map(|line| line.strip_prefix(name)).map(str::trim).unwrap_or_default()
    };
    let version = field("Zookeeper version:");
    let version = version.split(['-', ',']).next().unwrap_or_default().to_owned();
    if answer.contains("not currently serving requests") {
        let why = format!("{host} serves no requests now: it has no quorum");
        return Err(Error::new(ErrorKind::Unavailable, why));
    }
    if answer.is_empty() {
        let why = match tls {
            // A port that speaks TLS alone ends what does not.
            None => "ended the connection; if it speaks TLS alone, give `ca`",
            Some(_) => "ended the connection; it may want a client certificate, `cert` and `key`",
        };
        return Err(Error::new(ErrorKind::Unavailable, format!("{host} {why}")));
    }
    Ok(Probe { version, mode: field("Mode:").to_owned() })
}

async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<String> {
    stream.write_all(b"srvr").await?;
    stream.flush().await?;
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer).await {
        // Servers end TLS without its farewell, and with a reset when they have not read all.
        Err(e) if answer.is_empty() && !is_end(&e) => return Err(e),
        _ => {}
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Whether the server ended the connection.
fn is_end(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset)
}

/// The name that a host's certificate must have.
pub(crate) fn name(host: &str) -> Result<ServerName<'static>> {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let name = name.trim_start_matches('[').trim_end_matches(']');
    ServerName::try_from(name.to_owned()).map_err(|e| {
        Error::new(ErrorKind::InvalidArgument, format!("the host {host:?} is no name for TLS")).with_cause(e)
    })
}

fn of_io(host: &str, tls: bool, error: io::Error) -> Error {
    let said = error.get_ref().and_then(|e| e.downcast_ref::<TlsError>());
    let (kind, why) = match said {
        Some(TlsError::InvalidCertificate(_) | TlsError::NoCertificatesPresented) => (
            ErrorKind::Unauthenticated,
            "its certificate is not trusted; name its CA as `ca`, and the host as the certificate names it",
        ),
        Some(TlsError::InvalidMessage(InvalidMessage::InvalidContentType)) => {
            (ErrorKind::InvalidArgument, NO_TLS)
        }
        Some(TlsError::AlertReceived(_)) => (
            ErrorKind::Unauthenticated,
            "refused TLS with us; it may want a client certificate, `cert` and `key`",
        ),
        Some(_) => (ErrorKind::Unauthenticated, "TLS failed"),
        // A server without TLS ends a connection that begins like this.
        None if tls && is_end(&error) => (ErrorKind::InvalidArgument, NO_TLS),
        None => (ErrorKind::Unavailable, "cannot be reached"),
    };
    Error::new(kind, format!("{host}: {why}")).with_cause(error)
}

const NO_TLS: &str = "does not speak TLS; leave the TLS settings away, or give the port that does";

/// The least and the greatest time-out that the server grants a session: what it makes of none and of all.
pub(crate) async fn limits(host: &str, tls: Option<&Tls>, deadline: Deadline) -> Result<Limits> {
    let (least, greatest) =
        (granted(host, tls, 0, deadline).await?, granted(host, tls, i32::MAX, deadline).await?);
    Ok(Limits { least, greatest })
}

/// Asks for a session of this time-out in milliseconds, in the server's own protocol, and ends it. The client cannot: it
/// gives up a connection that takes longer than the time-out it asks for.
async fn granted(host: &str, tls: Option<&Tls>, asked: i32, deadline: Deadline) -> Result<Duration> {
    let server = tls.map(|_| name(host)).transpose()?;
    let ask = async {
        let stream = TcpStream::connect(host).await?;
        match (tls, server) {
            (Some(tls), Some(server)) => {
                shake(TlsConnector::from(tls.config.clone()).connect(server, stream).await?, asked).await
            }
            _ => shake(stream, asked).await,
        }
    };
    let millis = match deadline.limit(ask).await {
        Some(answer) => answer.map_err(|e| of_io(host, tls.is_some(), e))?,
        None => {
            let why = format!("{host} granted no session within {:?}", deadline.within());
            return Err(Error::new(ErrorKind::Timeout, why));
        }
    };
    let millis = u64::try_from(millis).ok().filter(|&millis| millis > 0);
    let millis = millis
        .ok_or_else(|| Error::new(ErrorKind::Corrupt, format!("{host} granted a session of no time")))?;
    Ok(Duration::from_millis(millis))
}

async fn shake(mut stream: impl AsyncRead + AsyncWrite + Unpin, asked: i32) -> io::Result<i32> {
    // A length; then the protocol's version, the last zxid seen, the time-out, no session yet, no password yet, and no
    // wish for a server that only reads.
    let mut request = vec![0; 4 + 45];
    request[3] = 45;
    request[16..20].copy_from_slice(&asked.to_be_bytes());
    request[31] = 16;
    stream.write_all(&request).await?;
    stream.flush().await?;
    // A length and the version before it.
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await?;
    // The first request, of the kind that ends the session.
    stream.write_all(&[0, 0, 0, 8, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xf5]).await?;
    stream.flush().await?;
    // Its answer, or the connection's end.
    let _ = stream.read_to_end(&mut Vec::new()).await;
    let millis = [answer[8], answer[9], answer[10], answer[11]];
    Ok(i32::from_be_bytes(millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_that_reads_nothing_and_hangs_up_may_want_tls() -> io::Result<()> {
        let server = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let host = server.local_addr()?.to_string();
        let hangs_up = async {
            let (client, _) = server.accept().await?;
            // What came and was not read makes it a reset.
            client.peek(&mut [0]).await
        };
        let (found, ended) =
            tokio::join!(probe(&host, None, Deadline::after(Duration::from_secs(10))), hangs_up);
        ended?;
        let error = found.err().ok_or(io::ErrorKind::InvalidData)?;
        assert!(error.to_string().contains("`ca`"), "{error}");
        Ok(())
    }
}
