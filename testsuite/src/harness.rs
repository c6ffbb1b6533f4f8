//! The hooks of a backend, by which the suite runs on it.

use crate::{Failure, Proxy, torture::nemesis::Stroke};
use kv_core::{Bytes, Capabilities, Kv, Result, driver::async_trait};
use std::{net::SocketAddr, sync::Arc};

/// A backend for the suite: opens clients of one server, and gives the hooks into that server that
/// there are.
///
/// Only the first two methods must be written; the cases that need a hook are shown as ignored without it, with the
/// reason.
#[async_trait]
pub trait Harness: Send + Sync + 'static {
    /// The name of the column in the matrix: `memory`, `etcd-3.5`, …
    fn name(&self) -> String;

    /// A new client of the server, with connections of its own, that sees what lies under this prefix. The suite's
    /// prefixes are unique, and end with a slash.
    async fn open(&self, prefix: &str) -> Result<Kv>;

    /// A new client as [`open`](Self::open) gives, whose every connection goes through the proxy. `None` for a backend
    /// without a network.
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

    /// The hook that stops, starts and pauses the server, data kept.
    fn server(&self) -> Option<Arc<dyn Server>> {
        None
    }

    /// The hook of the server's own tools, which know nothing of this library.
    fn foreign(&self) -> Option<Arc<dyn Foreign>> {
        None
    }

    /// A URL of the store for the cases about opening, with this prefix; `None` where the harness cannot tell.
    fn url(&self, prefix: &str) -> Option<String> {
        let _ = prefix;
        None
    }

    /// Opens a URL as the backend's own `open` does; `None` where the harness cannot. Whoever gives a [`url`](Self::url)
    /// gives this too.
    async fn open_url(&self, url: &str) -> Option<Result<Kv>> {
        let _ = url;
        None
    }

    /// Stores with this prefix, on the same server, that something other than the prefix keeps apart from what
    /// [`open`](Self::open) gives and from each other: a database, a namespace, a datacenter, a table, a file; each with the
    /// name of what differs. None, where the prefix is all there is.
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

    /// A new server of its own, which has little room, so that it can be filled without disturbing other cases; it ends when
    /// this is dropped. `None` for a kind that has no limit that a test can reach.
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

    /// Cases that this server cannot pass for its own reasons, which no capability expresses: the case's name and the
    /// reason, shown in the matrix.
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

/// A server that can be taken away and given back, with its data.
#[async_trait]
pub trait Server: Send + Sync {
    /// Ends it as an operator would; returns when it is gone.
    async fn stop(&self);
    /// Kills it without warning; returns when it is gone.
    async fn kill(&self);
    /// Starts it again on the same addresses with the same data; returns when it serves.
    async fn start(&self);
    /// Freezes it: connections stay, nothing answers.
    async fn pause(&self);
    /// Ends a freeze.
    async fn resume(&self);
    /// Keeps a copy of its data as they are, with the server stopped meanwhile; returns when it serves again.
    /// [`process::copy`](crate::process::copy) may help. `false`, and nothing done, where it cannot.
    async fn save(&self) -> bool {
        false
    }
    /// Puts the copy of the last [`save`](Self::save) in the place of the data, with the server stopped meanwhile, as an
    /// operator restores a backup; returns when it serves again.
    async fn restore_saved(&self) {}
}

/// The troubles that one kind of server, or a cluster, can have besides those that [`Server`] and
/// proxies make.
#[async_trait]
pub trait Troubles: Send + Sync {
    /// Those that can be brought about here, of those that [`Stroke::is_the_servers`] tells.
    fn known(&self) -> Vec<Stroke>;
    /// Brings one about, and returns; a number below `members` that chance decides tells which member it meets, where
    /// there are several.
    ///
    /// # Errors
    /// It could not be brought about; [`end`](Self::end) puts right what there is of it.
    async fn begin(&self, stroke: Stroke, member: usize) -> Result<(), Failure>;
    /// Puts it right; returns when the server serves as before.
    ///
    /// # Errors
    /// It does not.
    async fn end(&self, stroke: Stroke) -> Result<(), Failure>;
    /// Returns the number of members.
    fn members(&self) -> usize {
        1
    }
}

/// A server of its own with little room.
#[async_trait]
pub trait Full: Send + Sync {
    /// A new client of it that sees what lies under this prefix.
    async fn open(&self, prefix: &str) -> Result<Kv>;
    /// Takes all the room by small pieces, by names outside of the cases' prefixes and past the library, until the server
    /// refuses the smallest write, and goes on refusing. It stays so, whatever the library deletes, where that is how the
    /// server is.
    async fn fill(&self);
    /// Makes room as an operator does, and clears alarms; returns when writes are taken again.
    async fn relieve(&self);
}

/// The server's own tools, or its bare protocol: names are whole, with prefix, as the server holds them.
#[async_trait]
pub trait Foreign: Send + Sync {
    /// Writes these bytes under this name. A name that the server cannot hold is left out.
    async fn put(&self, name: &str, value: Bytes);
    /// Reads the bytes that the server holds under this name.
    async fn get(&self, name: &str) -> Option<Bytes>;
    /// Deletes the name.
    async fn delete(&self, name: &str);
    /// Names that look like the backend's own records of a lock and are none, `LOCK` in place of the lock's name: what is
    /// damaged, or was copied without what it belongs to.
    fn damaged(&self) -> &'static [&'static str] {
        &[]
    }
    /// Writes what `put` cannot: another type of data, where the server has types, under this name. `false` where it has
    /// none.
    async fn put_other_type(&self, name: &str) -> bool {
        let _ = name;
        false
    }
}
