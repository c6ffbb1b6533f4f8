//! The connection to one member, and whether it stands.

use super::tls;
use hyper_util::rt::TokioIo;
use kv_core::{Tls, backend::tls::TlsFiles};
use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::watch,
};
use tonic::{codegen::Service, transport::Uri};

/// The counts of the connections to one member: of those that were made and of those that ended,
/// since nothing can have been sent while none stood; and of how often a member was heard, since
/// one that says nothing at all is given up.
#[derive(Debug, Default)]
pub(crate) struct Link {
    made: AtomicU64,
    ended: AtomicU64,
    /// Counts the connections that the member ended.
    hung_up: AtomicU64,
    heard: AtomicU64,
    /// Tells whether a byte ever came.
    spoke: AtomicBool,
    /// Tells whether the first bytes that came were no HTTP/2.
    is_strange: AtomicBool,
    /// Tells whether the files by now hold other certificates than this link uses.
    outdated: AtomicBool,
    reset: watch::Sender<()>,
}

impl Link {
    /// Returns the number of connections made so far, and whether one stands.
    pub(crate) fn state(&self) -> (u64, bool) {
        let ended = self.ended.load(Ordering::Acquire);
        let made = self.made.load(Ordering::Acquire);
        (made, made > ended)
    }

    /// Returns a number that grows whenever the member says something.
    pub(crate) fn heard(&self) -> u64 {
        self.heard.load(Ordering::Relaxed)
    }

    /// Tells whether connections were made, and the member ended them all before it had said
    /// anything.
    pub(crate) fn is_hung_up_on(&self) -> bool {
        let made = self.made.load(Ordering::Acquire);
        made > 0 && made == self.hung_up.load(Ordering::Acquire) && !self.has_spoken()
    }

    /// Tells whether the member ever said something.
    pub(crate) fn has_spoken(&self) -> bool {
        self.spoke.load(Ordering::Relaxed)
    }

    /// Tells whether the first bytes from the member were no HTTP/2. It looks at bare bytes, so
    /// that it is of use for connections in plain text alone.
    pub(crate) fn is_strange(&self) -> bool {
        self.is_strange.load(Ordering::Relaxed)
    }

    /// Tells whether a channel has to be made anew, because the certificates have changed.
    pub(crate) fn is_outdated(&self) -> bool {
        self.outdated.load(Ordering::Relaxed)
    }

    /// Has the next connection use the certificates that the files hold then.
    pub(crate) fn outdate(&self) {
        self.outdated.store(true, Ordering::Relaxed);
    }

    /// Ends the connection that there is; the next request makes another one.
    pub(crate) fn reset(&self) {
        self.reset.send_replace(());
    }
}

/// Connects to one member, and counts the connections.
#[derive(Clone, Debug)]
pub(crate) struct Connector {
    pub(crate) address: Arc<str>,
    pub(crate) link: Arc<Link>,
    /// Holds the TLS settings, and what their files held when the channel was made.
    pub(crate) tls: Option<(Arc<Tls>, Arc<TlsFiles>)>,
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Connection>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let Self { address, link, tls } = self.clone();
        Box::pin(async move {
            if let Some((settings, files)) = tls
                && tls::have_changed(&settings, &files).await
            {
                link.outdate();
                return Err(io::Error::other("the files of the TLS settings have changed"));
            }
            let stream = TcpStream::connect(&*address).await?;
            stream.set_nodelay(true)?;
            link.made.fetch_add(1, Ordering::AcqRel);
            let mut resets = link.reset.subscribe();
            let reset = Box::pin(async move {
                // The sender cannot go first: the link outlives its connections.
                let _ = resets.changed().await;
            });
            Ok(TokioIo::new(Connection { stream, link, reset, is_hung_up: false }))
        })
    }
}

/// A connection that tells its link when it hears something and when it ends, and that the link
/// can end.
pub(crate) struct Connection {
    stream: TcpStream,
    link: Arc<Link>,
    reset: Pin<Box<dyn Future<Output = ()> + Send>>,
    is_hung_up: bool,
}

impl Connection {
    /// Notes that the member ended the connection. It is noted at once, since those who wait for
    /// answers are told before the connection is dropped.
    fn hung_up(&mut self) {
        if !std::mem::replace(&mut self.is_hung_up, true) {
            self.link.hung_up.fetch_add(1, Ordering::AcqRel);
        }
    }

    fn noted<T>(&mut self, done: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if matches!(done, Poll::Ready(Err(_))) {
            self.hung_up();
        }
        done
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.link.ended.fetch_add(1, Ordering::AcqRel);
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.reset.as_mut().poll(cx).is_ready() {
            let why = "ended on this side, because nothing was heard";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, why)));
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if read.is_ready() {
            self.link.heard.fetch_add(1, Ordering::Relaxed);
            if buf.filled().len() > before {
                if !self.link.spoke.swap(true, Ordering::Relaxed) {
                    // The first frame of a server is one of settings.
                    let is_strange = buf.filled()[before..].get(3).is_some_and(|&kind| kind != 4);
                    self.link.is_strange.store(is_strange, Ordering::Relaxed);
                }
            } else {
                self.hung_up();
            }
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.noted(written)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.noted(flushed)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.noted(written)
    }
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    type Failure = Box<dyn std::error::Error + Send + Sync>;

    /// Makes a connection of a new link, and returns it with the member's end of it.
    async fn connected() -> Result<(Arc<Link>, Connection, TcpStream), Failure> {
        let member = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let link = Arc::<Link>::default();
        let address = member.local_addr()?.to_string().into();
        let mut connector = Connector { address, link: link.clone(), tls: None };
        let (connection, accepted) =
            tokio::try_join!(connector.call(Uri::from_static("http://member")), member.accept())?;
        Ok((link, connection.into_inner(), accepted.0))
    }

    #[tokio::test]
    async fn one_that_hangs_up_is_known_before_the_connection_is_dropped() -> Result<(), Failure> {
        let (link, mut connection, member) = connected().await?;
        assert!(!link.is_hung_up_on());
        drop(member);
        assert_eq!(connection.read(&mut [0; 8]).await?, 0);
        assert!(link.is_hung_up_on());
        assert!(link.state().1, "it stands, and what is sent may still be taken");
        drop(connection);
        assert!(link.is_hung_up_on() && !link.state().1);
        Ok(())
    }

    #[tokio::test]
    async fn one_that_spoke_or_that_we_left_has_not_hung_up() -> Result<(), Failure> {
        let (link, mut connection, mut member) = connected().await?;
        member.write_all(b"word").await?;
        drop(member);
        while connection.read(&mut [0; 8]).await? > 0 {}
        assert!(!link.is_hung_up_on());

        let (link, connection, _member) = connected().await?;
        drop(connection);
        assert!(!link.is_hung_up_on());
        Ok(())
    }
}
