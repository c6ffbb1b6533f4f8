//! The channels to one member: each runtime has one of its own, because a channel lives and ends
//! with the tasks there.

use super::{
    access::Access,
    link::{Connector, Link},
    login::LoggedIn,
    tls,
};
use kv_core::{
    Error, ErrorKind, Result,
    backend::{self, Home, Mutex, tls::TlsFiles},
};
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::runtime::{self, Handle};
use tonic::transport::{self, Channel, Endpoint};

/// Limits how long making a connection may take, TLS included, before the next member is tried.
const CONNECT: Duration = Duration::from_secs(2);
/// Sets the time between pings: servers end a connection that is pinged more often than every five
/// seconds.
const PING_EVERY: Duration = Duration::from_secs(6);
const PONG_WITHIN: Duration = Duration::from_secs(3);
/// Limits the bytes that one watch holds back while it is not read. The window of the connection
/// is larger, so that watches do not hold back one another.
pub(super) const WATCH_WINDOW: u32 = 128 << 10;
pub(super) const CALL_WINDOW: u32 = 2 << 20;
const CONNECTION_WINDOW: u32 = 1 << 30;

/// The channels for requests of one kind, by the runtime that uses them.
pub(super) struct Channels {
    window: u32,
    made: Mutex<HashMap<runtime::Id, (Home, Arc<MemberChannel>)>>,
}

/// A channel: its connection is made when first needed, and made again when it breaks.
pub(super) struct MemberChannel {
    pub(super) transport: Channel,
    pub(super) link: Arc<Link>,
    pub(super) is_plain: bool,
    /// Holds the client whose requests want the member to know a leader; `unled` is the one whose
    /// requests do not.
    pub(super) led: LoggedIn,
    pub(super) unled: LoggedIn,
}

impl Channels {
    pub(super) fn new(window: u32) -> Self {
        Self { window, made: Mutex::default() }
    }

    /// Returns the channel of this runtime.
    pub(super) fn here(&self, address: &Arc<str>, access: &Access) -> Result<Arc<MemberChannel>> {
        let here = Handle::try_current().map(|runtime| runtime.id()).map_err(|e| {
            Error::new(ErrorKind::Closed, "no tokio runtime here; call kv-etcd from within one").with_cause(e)
        })?;
        let mut all = self.made.lock();
        if let Some((_, made)) = all.get(&here)
            && !made.link.is_outdated()
        {
            return Ok(made.clone());
        }
        all.retain(|_, (home, _)| !home.is_gone());
        let made = Arc::new(MemberChannel::new(address, access, self.window)?);
        all.insert(here, (Home::here(), made.clone()));
        Ok(made)
    }
}

impl MemberChannel {
    pub(super) fn new(address: &Arc<str>, access: &Access, window: u32) -> Result<Self> {
        let refused = |e: transport::Error| {
            let cause = std::error::Error::source(&e).map(ToString::to_string).unwrap_or_default();
            let why = format!("the address {address:?} or the TLS settings make no sense: {cause}");
            Error::new(ErrorKind::InvalidArgument, why).with_cause(e)
        };
        let files = backend::tls::read(&access.tls)?.map(Arc::<TlsFiles>::new);
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
        let transport = endpoint.connect_with_connector_lazy(connector);
        Ok(Self { transport, link, is_plain, led: LoggedIn::default(), unled: LoggedIn::default() })
    }
}
