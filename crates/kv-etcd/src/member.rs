//! One member of the cluster: its connections, and who is logged in there.

use crate::{
    client::Does,
    error::{Failed, Fate, NO_ETCD, failed, needs_no_login},
    link::{Connector, Link},
    tls::{self, Tls},
};
use etcd_client::{Channel, Client as Service, ConnectOptions, Error as ClientError};
use kv_core::{
    Deadline, Error, ErrorKind, Result, Secret,
    backend::{Home, TlsFiles},
};
use std::{
    collections::HashMap,
    future::Future,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    runtime::{self, Handle, RuntimeFlavor},
    sync::OnceCell,
};
use tonic::{Code, transport::Endpoint};

/// How long making a connection may take, TLS included, before the next member is tried.
const CONNECT: Duration = Duration::from_secs(2);
/// Servers end a connection that is pinged more often than every five seconds.
const PING_EVERY: Duration = Duration::from_secs(6);
const PONG_WITHIN: Duration = Duration::from_secs(3);
/// A connection on which nothing is heard for so long while one waits for an answer is given up.
const SILENCE: Duration = Duration::from_secs(1);
/// What a watch that is not read may hold back, each; together they must not hold back one another.
const WATCH_WINDOW: u32 = 128 << 10;
const CALL_WINDOW: u32 = 2 << 20;
const CONNECTION_WINDOW: u32 = 1 << 30;

/// How one reaches the members, and as whom.
#[derive(Debug)]
pub(crate) struct Access {
    pub(crate) login: Option<(String, Secret)>,
    pub(crate) tls: Arc<Tls>,
    /// The settings were right when the store was opened: what contradicts them later may pass.
    pub(crate) was_opened: AtomicBool,
}

pub(crate) struct Member {
    pub(crate) name: Arc<str>,
    access: Arc<Access>,
    calls: Pipe,
    streams: Pipe,
    has_answered: AtomicBool,
}

/// The connections of one kind: each runtime has one of its own, because it lives and ends with the tasks there.
struct Pipe {
    window: u32,
    made: Mutex<HashMap<runtime::Id, (Home, Arc<Made>)>>,
}

/// A connection that is made when first needed, and made again when it breaks.
struct Made {
    channel: tonic::transport::Channel,
    link: Arc<Link>,
    is_plain: bool,
    /// Clients that want the member to know a leader, and one that does not.
    led: LoggedIn,
    unled: LoggedIn,
}

/// A client, and how often it has logged in.
#[derive(Default)]
struct LoggedIn {
    service: OnceCell<Service>,
    logins: tokio::sync::Mutex<u64>,
    /// A request had no answer: a server that was put back to an older copy of its data looks at no token before it has come
    /// to where that was given.
    is_doubted: AtomicBool,
}

impl LoggedIn {
    async fn service(&self, channel: &tonic::transport::Channel, led: bool) -> Result<Service, ClientError> {
        let make = || async {
            let options = ConnectOptions::new().with_require_leader(led);
            Service::from_channel(Channel::Tonic(channel.clone()), Some(options)).await
        };
        self.service.get_or_try_init(make).await.cloned()
    }

    /// Logs in, unless somebody has since the login of this number; the number of the login that counts now.
    async fn login(&self, service: &Service, access: &Access, since: u64) -> Result<u64, ClientError> {
        let Some((user, password)) = &access.login else { return Ok(1) };
        let mut logins = self.logins.lock().await;
        if *logins == since || self.is_doubted.load(Ordering::Relaxed) {
            let login = service.clone().update_user(Some((user.clone(), password.reveal().to_owned()))).await;
            match login {
                // It was switched off, and the server looks at no token.
                Err(e) if needs_no_login(&e) && access.was_opened.load(Ordering::Relaxed) => {}
                login => login?,
            }
            self.is_doubted.store(false, Ordering::Relaxed);
            *logins += 1;
        }
        Ok(*logins)
    }
}

impl Pipe {
    fn new(window: u32) -> Self {
        Self { window, made: Mutex::default() }
    }

    /// The connection of this runtime.
    fn made(&self, address: &Arc<str>, access: &Access) -> Result<Arc<Made>> {
        let here = Handle::try_current().map(|runtime| runtime.id()).map_err(|e| {
            Error::new(ErrorKind::Closed, "etcd is asked from within a runtime of tokio").with_cause(e)
        })?;
        let mut all = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, made)) = all.get(&here)
            && !made.link.is_outdated()
        {
            return Ok(made.clone());
        }
        all.retain(|_, (home, _)| !home.is_gone());
        let made = Arc::new(Made::new(address, access, self.window)?);
        all.insert(here, (Home::here(), made.clone()));
        Ok(made)
    }
}

impl Made {
    fn new(address: &Arc<str>, access: &Access, window: u32) -> Result<Self> {
        let refused = |e: tonic::transport::Error| {
            let cause = std::error::Error::source(&e).map(ToString::to_string).unwrap_or_default();
            let why = format!("the address {address:?} or the TLS settings make no sense: {cause}");
            Error::new(ErrorKind::InvalidArgument, why).with_cause(e)
        };
        let files = access.tls.read()?.map(Arc::<TlsFiles>::new);
        let scheme = if files.is_some() { "https" } else { "http" };
        let mut endpoint = Endpoint::from_shared(format!("{scheme}://{address}")).map_err(refused)?;
        if let Some(files) = &files {
            endpoint = endpoint.tls_config(tls::config(files)).map_err(refused)?;
        }
        let endpoint = endpoint
            .connect_timeout(CONNECT)
            .http2_keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PONG_WITHIN)
            .keep_alive_while_idle(false)
            .initial_stream_window_size(window)
            .initial_connection_window_size(CONNECTION_WINDOW);
        let (link, is_plain) = (Arc::<Link>::default(), files.is_none());
        let tls = files.map(|files| (access.tls.clone(), files));
        let connector = Connector { address: address.clone(), link: link.clone(), tls };
        let channel = endpoint.connect_with_connector_lazy(connector);
        Ok(Self { channel, link, is_plain, led: LoggedIn::default(), unled: LoggedIn::default() })
    }
}

impl Member {
    pub(crate) fn new(name: Arc<str>, access: Arc<Access>) -> Self {
        let (calls, streams) = (Pipe::new(CALL_WINDOW), Pipe::new(WATCH_WINDOW));
        Self { name, access, calls, streams, has_answered: AtomicBool::new(false) }
    }

    /// Makes what settings can be wrong about, without any connection.
    pub(crate) fn check(&self) -> Result<()> {
        Made::new(&self.name, &self.access, CALL_WINDOW).map(drop)
    }

    /// One attempt, until the deadline; given up earlier, after `patience`, when the member says nothing at all.
    pub(crate) async fn attempt<T, F>(
        &self,
        does: Does,
        patience: Option<Deadline>,
        deadline: Deadline,
        request: impl Fn(Service) -> F,
    ) -> Result<T, Failed>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        let within = patience.unwrap_or(deadline);
        let pipe = if does == Does::Stream { &self.streams } else { &self.calls };
        let made = pipe.made(&self.name, &self.access).map_err(|error| self.unmade(error))?;
        let client = if does == Does::Stale { &made.unled } else { &made.led };
        // Only the log-in is sent here.
        let logged_in = |since| {
            let made = &made;
            async move {
                let service = client.service(&made.channel, does != Does::Stale).await?;
                let login = client.login(&service, &self.access, since).await?;
                Ok((service, login))
            }
        };
        let ready = async |since: u64| match within.limit(logged_in(since)).await {
            Some(Ok(ready)) => Ok(ready),
            Some(Err(e)) => {
                let failed = self.failed(&made, e);
                let undone = matches!(failed.fate, Fate::Unknown | Fate::Stale);
                Err(if undone { Failed { fate: Fate::Undone, ..failed } } else { failed })
            }
            None => Err(self.silent(Fate::Undone, within)),
        };
        let (service, login) = ready(0).await?;
        let first = self.once(does, within, deadline, &made, &request, service).await;
        let first = match first {
            Err(failed) if self.access.login.is_some() && wants_login(&failed, does) => failed,
            answer => return answer.map_err(without_login),
        };
        tracing::debug!(error = %first.error, "logging in again");
        let (service, _) = ready(login).await?;
        let again = self.once(does, within, deadline, &made, &request, service).await;
        again.map_err(|failed| match failed.fate {
            // Users change, or the member does not know the new token yet.
            Fate::Stale => Failed { fate: Fate::Undone, error: unavailable(failed.error), ..failed },
            _ => failed,
        })
    }

    async fn once<T, F>(
        &self,
        does: Does,
        within: Deadline,
        deadline: Deadline,
        made: &Made,
        request: &impl Fn(Service) -> F,
        service: Service,
    ) -> Result<T, Failed>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        let link = &made.link;
        if does == Does::Write {
            catch_up().await;
        }
        let ((connections, stands), heard) = (link.state(), link.heard());
        let mut request = std::pin::pin!(request(service));
        let mut answer = within.limit(request.as_mut()).await;
        if answer.is_none() && link.heard() != heard {
            answer = deadline.limit(request).await;
        }
        match answer {
            Some(Ok(answer)) => {
                self.has_answered.store(true, Ordering::Relaxed);
                Ok(answer)
            }
            Some(Err(e)) => Err(self.failed(made, e)),
            None => {
                for client in [&made.led, &made.unled] {
                    client.is_doubted.store(true, Ordering::Relaxed);
                }
                let sent = stands || link.state().0 > connections;
                // A route that was lost stays so; another connection may find one.
                let silence = match does {
                    Does::Renewal => SILENCE.min(deadline.within() / 2),
                    _ => SILENCE,
                };
                if link.heard() == heard && within.within() >= silence {
                    link.reset();
                }
                Err(self.silent(if sent { Fate::Unknown } else { Fate::Undone }, within))
            }
        }
    }

    fn was_right(&self) -> bool {
        self.has_answered.load(Ordering::Relaxed) || self.access.was_opened.load(Ordering::Relaxed)
    }

    /// No channel could be made: after `open`, files are being replaced.
    fn unmade(&self, error: Error) -> Failed {
        match error.kind() {
            ErrorKind::InvalidArgument if self.was_right() => {
                Failed { fate: Fate::Undone, error: unavailable(error), is_of_tls: false }
            }
            _ => Failed { fate: Fate::Refused, error, is_of_tls: false },
        }
    }

    fn failed(&self, made: &Made, error: ClientError) -> Failed {
        // The connection ended before the request left.
        let is_cancelled = matches!(&error, ClientError::GRpcStatus(s) if s.code() == Code::Cancelled);
        let failed = failed(&self.name, self.was_right(), error);
        if !made.is_plain {
            // Whom one trusts may have changed, the system's roots too.
            if failed.is_of_tls {
                made.link.outdate();
            }
            if made.link.is_outdated() && failed.fate == Fate::Refused && self.was_right() {
                return Failed { fate: Fate::Undone, ..failed };
            }
        }
        let hint = match &made.link {
            _ if !made.is_plain || self.was_right() => return failed,
            link if link.is_strange() || link.has_spoken() && is_cancelled => NO_ETCD,
            link if link.is_hung_up_on() => {
                "hangs up without a word; if it wants TLS, name its CA as `ca`, or say `tls=true`"
            }
            _ => return failed,
        };
        let error =
            Error::new(failed.error.kind(), format!("{}: {hint}", self.name)).with_cause(failed.error);
        Failed { error, ..failed }
    }

    fn silent(&self, fate: Fate, cut: Deadline) -> Failed {
        let within = cut.within();
        let why = match fate {
            Fate::Unknown => format!("{}: no answer within {within:?}", self.name),
            _ => format!("{}: no connection within {within:?}", self.name),
        };
        Failed { fate, error: Error::new(ErrorKind::Timeout, why), is_of_tls: false }
    }
}

/// Whether another login may mend it. A server before 3.4.20 says of a watch with an ended token that it is denied.
fn wants_login(failed: &Failed, does: Does) -> bool {
    failed.fate == Fate::Stale || does == Does::Stream && failed.error.kind() == ErrorKind::PermissionDenied
}

fn without_login(failed: Failed) -> Failed {
    match failed.fate {
        Fate::Stale => Failed { fate: Fate::Refused, ..failed },
        _ => failed,
    }
}

fn unavailable(error: Error) -> Error {
    Error::new(ErrorKind::Unavailable, "it may pass").with_cause(error)
}

/// A runtime of one thread may have stood still while the server ended the connection: it learns so before something is
/// sent there of which one would not know what became.
async fn catch_up() {
    if Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread {
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
    }
}
