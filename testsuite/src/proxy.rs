//! A TCP proxy that can be slow, cut, frozen, lose an answer, or answer in the server's place.

mod answers;

use std::{
    fmt, io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpSocket, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::{mpsc, oneshot, watch},
    task::{JoinHandle, JoinSet},
};

/// A TCP proxy on loopback in front of a server, on a free port: does to a client what a network
/// does, at will.
///
/// It forwards any number of connections. An order holds for all of them, those to come included,
/// until [`heal`](Self::heal). Dropping the proxy resets its connections and frees its port; no
/// task of it runs on.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
/// use kv_testsuite::Proxy;
/// use tokio::net::{TcpListener, TcpStream};
///
/// let server = TcpListener::bind("127.0.0.1:0").await?;
/// let proxy = Proxy::start(server.local_addr()?).await;
/// proxy.cut().await;
/// assert!(TcpStream::connect(proxy.address()).await.is_err());
/// proxy.heal().await;
/// assert!(TcpStream::connect(proxy.address()).await.is_ok());
/// # Ok(()) }
/// ```
pub struct Proxy {
    server: SocketAddr,
    address: SocketAddr,
    shared: Arc<Shared>,
    orders: mpsc::Sender<(Order, oneshot::Sender<()>)>,
    acceptor: JoinHandle<()>,
}

/// The connections and bytes that went through a [`Proxy`] since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Connections that were accepted.
    pub connections: u64,
    /// Connections that are open.
    pub open: u64,
    /// Bytes that reached the server.
    pub to_server: u64,
    /// Bytes that reached clients.
    pub to_client: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Cut,
    Reset,
    Accept,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    ToServer,
    ToClient,
}

/// The rules for all connections.
#[derive(Clone, Default)]
struct Rules {
    hold_requests: bool,
    hold_answers: bool,
    /// Connections with a lower number are frozen.
    stranded: u64,
    delay: Duration,
    /// Answers are held as soon as a request with these bytes passes.
    trap: Option<Arc<[u8]>>,
    trapped: bool,
    /// The server has answered behind the trap.
    answered: bool,
    /// The answer that connections get in place of the server's.
    answer: Option<Arc<[u8]>>,
    /// Connections of an earlier generation end.
    generation: u64,
}

impl Rules {
    fn hold(&self, number: u64, way: Way) -> bool {
        let held = match way {
            Way::ToServer => self.hold_requests,
            Way::ToClient => self.hold_answers,
        };
        held || number < self.stranded
    }
}

struct Shared {
    rules: watch::Sender<Rules>,
    connections: AtomicU64,
    open: AtomicU64,
    to_server: AtomicU64,
    to_client: watch::Sender<u64>,
}

impl Proxy {
    /// Starts a proxy in front of this address.
    ///
    /// # Panics
    /// Loopback has no free port.
    pub async fn start(server: SocketAddr) -> Self {
        // This socket, bound and never listening, keeps the port ours while connections are
        // refused.
        let reserved = bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port of loopback");
        let address = reserved.local_addr().expect("the address of a bound socket");
        let listener = listen(address).expect("to listen on a port of our own");
        let shared = Arc::new(Shared {
            rules: watch::Sender::new(Rules::default()),
            connections: AtomicU64::default(),
            open: AtomicU64::default(),
            to_server: AtomicU64::default(),
            to_client: watch::Sender::new(0),
        });
        let (orders, received) = mpsc::channel(1);
        let acceptor = Acceptor { server, address, shared: shared.clone(), _reserved: reserved };
        let acceptor = tokio::spawn(acceptor.run(listener, received));
        Self { server, address, shared, orders, acceptor }
    }

    /// Returns the address at which the proxy listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the address of the server.
    pub fn server(&self) -> SocketAddr {
        self.server
    }

    /// Resets every connection, and refuses new ones until [`heal`](Self::heal), as if the server
    /// were gone; what the connections hold is lost. Returns when this is done.
    pub async fn cut(&self) {
        self.order(Order::Cut).await;
    }

    /// Resets every connection, and accepts new ones; what the connections hold is lost. Returns
    /// when this is done.
    pub async fn reset(&self) {
        self.order(Order::Reset).await;
    }

    /// Ends every trouble: new connections are accepted, what was held goes on, there is no delay.
    /// Returns when this is done.
    pub async fn heal(&self) {
        self.change(|rules| {
            // Connections that the proxy answers by itself end: they do not become the server's.
            let generation = rules.generation + u64::from(rules.answer.is_some());
            *rules = Rules { generation, ..Rules::default() };
        });
        self.order(Order::Accept).await;
    }

    /// Stops moving bytes in both directions; connections stay open and new ones are accepted, as
    /// with a server that hangs, or a network that swallows everything.
    pub fn freeze(&self) {
        self.change(|rules| (rules.hold_requests, rules.hold_answers) = (true, true));
    }

    /// Stops moving what clients send.
    pub fn freeze_requests(&self) {
        self.change(|rules| rules.hold_requests = true);
    }

    /// Stops moving what the server sends: requests arrive, and are not answered.
    pub fn freeze_answers(&self) {
        self.change(|rules| rules.hold_answers = true);
    }

    /// Moves on what a freeze held, on the same connections.
    pub fn thaw(&self) {
        self.change(|rules| (rules.hold_requests, rules.hold_answers, rules.stranded) = (false, false, 0));
    }

    /// Freezes the connections that there are, as a router does that forgot them, until
    /// [`thaw`](Self::thaw) or [`heal`](Self::heal); new ones work.
    pub fn strand(&self) {
        let next = self.shared.connections.load(Ordering::SeqCst);
        self.change(|rules| rules.stranded = next);
    }

    /// Has every piece of up to 16 KiB wait this long, in each direction.
    pub fn delay(&self, time: Duration) {
        self.change(|rules| rules.delay = time);
    }

    /// Freezes the answers of all connections when a request that holds these bytes goes to the
    /// server. The request arrives; to have its answer lost, wait until the server has done it,
    /// then [`cut`](Self::cut) or [`reset`](Self::reset) and [`heal`](Self::heal).
    /// [`trapped`](Self::trapped) tells when the request went. Answers that were held before move
    /// on.
    pub fn hold_answer_to(&self, request: impl AsRef<[u8]>) {
        let trap = Some(request.as_ref().into());
        self.change(|rules| {
            (rules.trap, rules.trapped, rules.answered, rules.hold_answers) = (trap, false, false, false);
        });
    }

    /// Freezes the answers as [`hold_answer_to`](Self::hold_answer_to) does, at the next request,
    /// from whichever client: for requests without bytes by which they can be told.
    pub fn hold_next_answer(&self) {
        self.hold_answer_to([]);
    }

    /// Has the proxy answer every request by itself until [`heal`](Self::heal), with these bytes:
    /// a whole answer of HTTP/1 that says `Connection: close`. So does a reverse proxy or an
    /// ingress without a server; the server hears nothing. Resets the connections that there are.
    /// Returns when this is done.
    pub async fn answer_for_server(&self, answer: impl AsRef<[u8]>) {
        let answer = Some(answer.as_ref().into());
        self.change(|rules| rules.answer = answer);
        self.order(Order::Reset).await;
    }

    /// Waits until the request that [`hold_answer_to`](Self::hold_answer_to) names has gone to the
    /// server. Cancel safe.
    pub async fn trapped(&self) {
        // The sender is ours, so waiting cannot fail.
        let _ = self.shared.rules.subscribe().wait_for(|rules| rules.trapped).await;
    }

    /// Waits until the server has answered behind the request that
    /// [`hold_answer_to`](Self::hold_answer_to) names: a client that is alone on its link has its
    /// answer held then. Cancel safe.
    pub async fn answered(&self) {
        let _ = self.shared.rules.subscribe().wait_for(|rules| rules.answered).await;
    }

    /// Waits until more than so many bytes have reached clients, as [`Traffic::to_client`] counts
    /// them. Cancel safe.
    pub async fn answered_beyond(&self, bytes: u64) {
        let _ = self.shared.to_client.subscribe().wait_for(|count| *count > bytes).await;
    }

    /// Returns the connections and bytes that went through since the start.
    pub fn traffic(&self) -> Traffic {
        Traffic {
            connections: self.shared.connections.load(Ordering::SeqCst),
            open: self.shared.open.load(Ordering::SeqCst),
            to_server: self.shared.to_server.load(Ordering::SeqCst),
            to_client: *self.shared.to_client.borrow(),
        }
    }

    fn change(&self, change: impl FnOnce(&mut Rules)) {
        self.shared.rules.send_modify(change);
    }

    async fn order(&self, order: Order) {
        let (done, seen) = oneshot::channel();
        let sent = self.orders.send((order, done)).await;
        assert!(sent.is_ok() && seen.await.is_ok(), "the proxy on {} has broken down", self.address);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // The acceptor owns the connections' tasks.
        self.acceptor.abort();
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let traffic = self.traffic();
        f.debug_struct("Proxy")
            .field("address", &self.address)
            .field("traffic", &traffic)
            .finish_non_exhaustive()
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    bind(address)?.listen(1024)
}

struct Acceptor {
    server: SocketAddr,
    address: SocketAddr,
    shared: Arc<Shared>,
    _reserved: TcpSocket,
}

impl Acceptor {
    async fn run(self, listener: TcpListener, mut orders: mpsc::Receiver<(Order, oneshot::Sender<()>)>) {
        let mut listener = Some(listener);
        let mut links = JoinSet::new();
        loop {
            let accept = async {
                match &listener {
                    Some(listener) => listener.accept().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                order = orders.recv() => {
                    let Some((order, done)) = order else { return };
                    match order {
                        Order::Accept if listener.is_some() => {}
                        Order::Accept => listener = Some(listen(self.address).expect("a reserved port")),
                        Order::Cut | Order::Reset => {
                            if order == Order::Cut {
                                listener = None;
                            }
                            self.shared.rules.send_modify(|rules| rules.generation += 1);
                            while links.join_next().await.is_some() {}
                        }
                    }
                    // The caller may have stopped waiting.
                    let _ = done.send(());
                }
                Ok((client, _)) = accept => {
                    links.spawn(Link::new(client, self.shared.clone()).run(self.server));
                }
                Some(_) = links.join_next() => {}
            }
        }
    }
}

/// One connection.
struct Link {
    client: TcpStream,
    number: u64,
    generation: u64,
    shared: Arc<Shared>,
}

impl Link {
    /// Notes the connection: orders from here on hold for it, though its task may not have begun.
    fn new(client: TcpStream, shared: Arc<Shared>) -> Self {
        let number = shared.connections.fetch_add(1, Ordering::SeqCst);
        shared.open.fetch_add(1, Ordering::SeqCst);
        let generation = shared.rules.borrow().generation;
        Self { client, number, generation, shared }
    }

    /// Carries bytes until both sides have ended the connection, or it is cut.
    async fn run(mut self, server: SocketAddr) {
        // A task that is aborted closes by a reset as well. A connection that both sides have
        // ended is past that.
        let reset = |stream: &TcpStream| stream.set_zero_linger().and_then(|()| stream.set_nodelay(true));
        if reset(&self.client).is_err() {
            return;
        }
        let (number, shared) = (self.number, &self.shared.clone());
        let carry = async {
            let answer = shared.rules.borrow().answer.clone();
            if let Some(answer) = answer {
                return answers::give(&mut self.client, &answer).await;
            }
            let mut server = TcpStream::connect(server).await?;
            reset(&server)?;
            // Owned halves would end the connection in order when they are dropped, before the
            // reset.
            let ((from_client, to_client), (from_server, to_server)) = (self.client.split(), server.split());
            tokio::try_join!(
                pump(from_client, to_server, Way::ToServer, number, shared),
                pump(from_server, to_client, Way::ToClient, number, shared),
            )?;
            Ok(())
        };
        let mut rules = shared.rules.subscribe();
        tokio::select! {
            biased;
            _ = rules.wait_for(|rules| rules.generation != self.generation) => {}
            // An error of one side ends the other: both halves are dropped.
            _ = carry => {}
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.shared.open.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Moves bytes one way until their source ends.
async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    way: Way,
    number: u64,
    shared: &Shared,
) -> io::Result<()> {
    let mut rules = shared.rules.subscribe();
    let mut piece = vec![0; 16 << 10];
    // The last bytes that passed, among which those of a trap may have begun.
    let mut passed = Vec::new();
    let gone = |_| io::Error::other("the proxy is gone");
    loop {
        // An answer is read before it is held, so that it is known to be there.
        if way == Way::ToServer {
            rules.wait_for(|rules| !rules.hold(number, way)).await.map_err(gone)?;
        }
        let read = from.read(&mut piece).await?;
        if way == Way::ToClient {
            let comes = shared.rules.borrow().trapped;
            shared.rules.send_if_modified(|rules| std::mem::replace(&mut rules.answered, comes) != comes);
        }
        if read == 0 {
            // An end is held as bytes are: it must not arrive during a freeze.
            rules.wait_for(|rules| !rules.hold(number, way)).await.map_err(gone)?;
            return to.shutdown().await;
        }
        let delay = rules.borrow().delay;
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        rules.wait_for(|rules| !rules.hold(number, way)).await.map_err(gone)?;
        let bytes = &piece[..read];
        match way {
            Way::ToServer => {
                spring(shared, &mut passed, bytes);
                to.write_all(bytes).await?;
                shared.to_server.fetch_add(read as u64, Ordering::SeqCst);
            }
            Way::ToClient => {
                to.write_all(bytes).await?;
                shared.to_client.send_modify(|count| *count += read as u64);
            }
        }
    }
}

/// Holds the answers from now on, if the bytes that pass complete those of the trap.
fn spring(shared: &Shared, passed: &mut Vec<u8>, bytes: &[u8]) {
    let Some(trap) = shared.rules.borrow().trap.clone() else {
        passed.clear();
        return;
    };
    passed.extend_from_slice(bytes);
    if trap.is_empty() || passed.windows(trap.len()).any(|window| window == &*trap) {
        shared.rules.send_modify(|rules| {
            (rules.hold_answers, rules.trapped, rules.trap) = (true, true, None);
        });
        passed.clear();
    } else {
        let keep = trap.len().saturating_sub(1).min(passed.len());
        passed.drain(..passed.len() - keep);
    }
}
