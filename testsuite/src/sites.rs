//! The servers of a run: one that most cases share, and some for cases that take their server away.

use crate::{Case, Failure, Harness, Server, server::Borrowed};
use futures::{
    FutureExt,
    future::{BoxFuture, select_all, try_join_all},
};
use std::{slice, sync::Arc};
use tokio::sync::{OnceCell, OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

/// The number of servers that are there to be taken away. The start of one takes a core for seconds, and two
/// at once made the cases beside them late.
const APART: usize = 1;

/// Makes a harness with a server of its own.
pub(crate) type Make = Box<dyn Fn() -> BoxFuture<'static, Result<Arc<dyn Harness>, Failure>> + Send + Sync>;

/// A harness, and whose turn it is on its server.
struct Site {
    harness: Arc<dyn Harness>,
    turns: Arc<RwLock<()>>,
}

impl Site {
    fn new(harness: Arc<dyn Harness>) -> Self {
        Self { harness, turns: Arc::default() }
    }
}

/// The turn of a case on a server: beside other cases, or alone with it.
pub(crate) enum Turn {
    Beside { _held: OwnedRwLockReadGuard<()> },
    Alone { _held: OwnedRwLockWriteGuard<()>, server: Arc<Borrowed> },
}

impl Turn {
    /// Returns the server, where it may be taken away.
    pub(crate) fn server(&self) -> Option<&Arc<Borrowed>> {
        match self {
            Self::Beside { .. } => None,
            Self::Alone { server, .. } => Some(server),
        }
    }
}

/// The servers of a run.
pub(crate) struct Sites {
    shared: Site,
    make: Option<Make>,
    /// Made when the first case asks for one.
    apart: OnceCell<Vec<Site>>,
}

impl Sites {
    /// Returns the one server for all: a case that takes it away runs while no other runs.
    pub(crate) fn one(harness: Arc<dyn Harness>) -> Self {
        Self { shared: Site::new(harness), make: None, apart: OnceCell::new() }
    }

    /// Returns a server for the cases that share it, and makes more for those that take theirs away.
    pub(crate) async fn several(make: Make) -> Result<Self, Failure> {
        Ok(Self { shared: Site::new(make().await?), make: Some(make), apart: OnceCell::new() })
    }

    /// Returns the harness that most cases share.
    pub(crate) fn harness(&self) -> &Arc<dyn Harness> {
        &self.shared.harness
    }

    /// Waits for the case's turn; returns where it runs.
    ///
    /// # Errors
    /// A server could not be started.
    pub(crate) async fn turn(&self, case: Case) -> Result<(Arc<dyn Harness>, Turn), Failure> {
        let shared = &self.shared;
        if !(case.takes_server && shared.harness.server().is_some()) {
            let held = shared.turns.clone().read_owned().await;
            return Ok((shared.harness.clone(), Turn::Beside { _held: held }));
        }
        let sites = match &self.make {
            None => slice::from_ref(shared),
            Some(make) => self.apart.get_or_try_init(|| apart(make)).await?,
        };
        let free =
            sites.iter().map(|site| site.turns.clone().write_owned().map(move |held| (site, held)).boxed());
        let ((site, held), ..) = select_all(free).await;
        let server: Arc<dyn Server> =
            site.harness.server().ok_or("a harness whose server is there no more")?;
        Ok((site.harness.clone(), Turn::Alone { _held: held, server: Arc::new(Borrowed::new(server)) }))
    }
}

async fn apart(make: &Make) -> Result<Vec<Site>, Failure> {
    let made = try_join_all((0..APART).map(|_| make())).await;
    let harnesses = made.map_err(|e| format!("a server to be taken away could not be started: {e}"))?;
    Ok(harnesses.into_iter().map(Site::new).collect())
}
