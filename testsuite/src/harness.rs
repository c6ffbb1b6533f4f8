//! The hooks of a backend, by which the suite runs on it.

use crate::{Failure, Proxy, torture::stroke::Stroke};
use kv_core::{Bytes, Capabilities, Kv, Result, driver::async_trait};
use std::{net::SocketAddr, sync::Arc};

/// A backend for the suite: opens clients of one server, and gives hooks into that server.
///
/// Only the first two methods must be written; the cases that need a hook are shown as ignored
/// without it, with the reason.
#[async_trait]
pub trait Harness: Send + Sync + 'static {
    /// Returns the name of the column in the matrix: `memory`, `etcd-3.5`, …
    fn name(&self) -> String;

    /// Opens a new client of the server, with connections of its own, that sees what lies under
    /// this prefix. The suite's prefixes are unique, and end with a slash.
    async fn open(&self, prefix: &str) -> Result<Kv>;

    /// Opens a new client, as [`open`](Self::open) does, whose every connection goes through the
    /// proxy. `None` for a backend without a network.
    async fn open_through(&self, proxy: &Proxy, prefix: &str) -> Option<Result<Kv>> {
        let _ = (proxy, prefix);
        None
    }

    /// Returns the address at which the server listens, for the proxy in front of it. `None` where
    /// no proxy can stand there.
    fn address(&self) -> Option<SocketAddr> {
        None
    }

    /// Returns the further addresses at which the server listens, for clients that speak to it in
    /// another way, by TLS say; the clients of workloads under fire take each in turn.
    /// [`open_through`](Self::open_through) knows by [`Proxy::server`] to which address a proxy
    /// leads.
    fn other_addresses(&self) -> Vec<SocketAddr> {
        Vec::new()
    }

    /// Returns the hook that stops, starts and pauses the server, which keeps its data.
    fn server(&self) -> Option<Arc<dyn Server>> {
        None
    }

    /// Returns the hook of the server's own tools, which know nothing of this library.
    fn foreign(&self) -> Option<Arc<dyn Foreign>> {
        None
    }

    /// Returns a URL of the store with this prefix, for the cases about opening; `None` where the
    /// harness cannot tell one.
    fn url(&self, prefix: &str) -> Option<String> {
        let _ = prefix;
        None
    }

    /// Returns a URL of the store with this prefix, by which a process reaches the server through
    /// this proxy and in no other way; `None` where the harness cannot tell one.
    fn url_through(&self, proxy: &Proxy, prefix: &str) -> Option<String> {
        let _ = (proxy, prefix);
        None
    }

    /// Opens a URL as the backend's own `open` does; `None` where the harness cannot. A harness
    /// that gives a [`url`](Self::url) gives this too.
    async fn open_url(&self, url: &str) -> Option<Result<Kv>> {
        let _ = url;
        None
    }

    /// Opens stores with this prefix, on the same server, that something other than the prefix
    /// keeps apart from what [`open`](Self::open) gives and from each other: a database, a
    /// namespace, a datacenter, a table, a file. Each comes with the name of what differs. The
    /// list is empty where the prefix is all there is.
    async fn beside(&self, prefix: &str) -> Vec<(&'static str, Result<Kv>)> {
        let _ = prefix;
        Vec::new()
    }

    /// Lists what the library has on the server under the prefix at this moment, one line each,
    /// while clients are open: keys of users, contenders and holders of locks, marks, leases and
    /// sessions that have names there. Cases compare two answers, to see that what was given up
    /// does not stay. `None` where the harness cannot tell.
    async fn internals(&self, prefix: &str) -> Option<Vec<String>> {
        let _ = prefix;
        None
    }

    /// Starts a new server, which has little room, so that it can be filled without disturbing
    /// other cases; the server ends when the hook is dropped. `None` for a kind of server that has
    /// no limit that a test can reach.
    async fn full(&self) -> Option<Arc<dyn Full>> {
        None
    }

    /// Returns the hook of the further troubles that this kind of server can have while workloads
    /// are under fire. `None` where there are none but those that [`Server`] and proxies make.
    fn troubles(&self) -> Option<Arc<dyn Troubles>> {
        None
    }

    /// Tells whether the backend speaks HTTP/1 with its server, so that something between the two
    /// may answer in the server's place, as [`Proxy::answer_for_server`] does.
    fn speaks_http(&self) -> bool {
        false
    }

    /// Returns the reason for which this server cannot pass the case, where that is the server's
    /// own and no capability expresses it. The matrix shows the reason.
    fn excused(&self, case: &str, capabilities: &Capabilities) -> Option<String> {
        let _ = (case, capabilities);
        None
    }

    /// Tells whether the results belong into the tables of the documentation.
    fn is_documented(&self) -> bool {
        true
    }

    /// Lists what the library has left on the server under the prefix after everything was deleted
    /// and closed: internals, leases, sessions, watchers. The list is empty where the harness
    /// cannot tell.
    async fn leftovers(&self, prefix: &str) -> Vec<String> {
        let _ = prefix;
        Vec::new()
    }
}

/// A server that can be taken away and given back, with its data. A server of one process is one
/// by [`OwnServer`](crate::OwnServer).
#[async_trait]
pub trait Server: Send + Sync {
    /// Ends the server as an operator would; returns when it is gone.
    async fn stop(&self);
    /// Kills the server without warning; returns when it is gone.
    async fn kill(&self);
    /// Starts the server again on the same addresses with the same data; returns when it serves.
    async fn start(&self);
    /// Freezes the server: connections stay, nothing answers.
    async fn pause(&self);
    /// Ends a freeze.
    async fn resume(&self);
    /// Keeps a copy of the server's data as they are, with the server stopped meanwhile; returns
    /// when it serves again. [`process::copy`](crate::process::copy) may help. Returns `false`,
    /// and does nothing, where this cannot be done.
    async fn save(&self) -> bool {
        false
    }
    /// Puts the copy of the last [`save`](Self::save) in the place of the data, with the server
    /// stopped meanwhile, as an operator restores a backup; returns when it serves again.
    async fn restore_saved(&self) {}
}

/// The troubles that one kind of server, or a cluster, can have besides those that [`Server`] and
/// proxies make.
#[async_trait]
pub trait Troubles: Send + Sync {
    /// Returns the strokes that can be brought about here, of those that
    /// [`Stroke::is_the_servers`] tells.
    fn known(&self) -> Vec<Stroke>;
    /// Brings a stroke about, and returns. `member` is a number below [`members`](Self::members),
    /// which chance decides: the member that the stroke meets, where there are several.
    ///
    /// # Errors
    /// The stroke could not be brought about; [`end`](Self::end) puts right what there is of it.
    async fn begin(&self, stroke: Stroke, member: usize) -> Result<(), Failure>;
    /// Puts the stroke right; returns when the server serves as before.
    ///
    /// # Errors
    /// The server does not serve as before.
    async fn end(&self, stroke: Stroke) -> Result<(), Failure>;
    /// Returns the number of members.
    fn members(&self) -> usize {
        1
    }
}

/// A server with little room, for one case.
#[async_trait]
pub trait Full: Send + Sync {
    /// Opens a new client of the server, that sees what lies under this prefix.
    async fn open(&self, prefix: &str) -> Result<Kv>;
    /// Fills the server by small pieces, under names outside of the cases' prefixes and without
    /// the library, until it refuses the smallest write, and goes on refusing. It stays full,
    /// whatever the library deletes, where that is how the server is.
    async fn fill(&self);
    /// Makes room as an operator does, and clears alarms; returns when writes are taken again.
    async fn relieve(&self);
}

/// The server's own tools, or its bare protocol. Names are whole, with prefix, as the server holds
/// them.
#[async_trait]
pub trait Foreign: Send + Sync {
    /// Writes these bytes under this name. A name that the server cannot hold is left out.
    async fn put(&self, name: &str, value: Bytes);
    /// Reads the bytes that the server holds under this name.
    async fn get(&self, name: &str) -> Option<Bytes>;
    /// Deletes the name.
    async fn delete(&self, name: &str);
    /// Returns names that look like the backend's own records of a lock and are none, with `LOCK`
    /// in place of the lock's name: records that are damaged, or that were copied without what
    /// they belong to.
    fn damaged(&self) -> &'static [&'static str] {
        &[]
    }
    /// Writes under this name what `put` cannot: data of another type, where the server has types.
    /// Returns `false` where it has none.
    async fn put_other_type(&self, name: &str) -> bool {
        let _ = name;
        false
    }
}
