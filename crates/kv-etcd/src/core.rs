//! The state that all modules of the store share: the client, the names, the clock, the limits,
//! and what lives as long as the store.

use crate::{
    client::{
        Client, Purpose,
        limits::{ANSWER, capabilities},
        version,
    },
    lease::{grant::Granter, ttl_leases::TtlLeases},
    lock::sessions::Sessions,
    names::Names,
};
use etcd_client::{
    Client as Service, GetOptions, GetResponse, Member, ResponseHeader, StatusResponse, Txn, TxnResponse,
};
use kv_core::{
    Capabilities, Error, ErrorKind, Health, Result,
    backend::{Clock, Tasks},
    driver::Deadline,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

/// Limits how long `close` waits for the tasks that give back what was dropped.
const GIVEN_BACK: Duration = Duration::from_millis(500);

/// One opened store, as its modules share it.
pub(crate) struct Core {
    pub(crate) client: Arc<Client>,
    pub(crate) names: Names,
    pub(crate) clock: Clock,
    pub(crate) capabilities: Capabilities,
    pub(crate) sessions: Sessions,
    /// Holds the tasks that give back what was made on the server.
    pub(crate) tasks: Tasks,
    /// Holds the leases of puts with a TTL.
    pub(crate) ttl_leases: TtlLeases,
    /// Holds the revision of the last answer.
    seen: AtomicI64,
}

impl Core {
    /// Asks the server for its version, and makes a store on it.
    pub(crate) async fn open(
        client: Client,
        prefix: String,
        clock: Clock,
        deadline: Deadline,
    ) -> Result<Self> {
        let client = Arc::new(client);
        // Any member answers both requests: without a leader, when it is full, and as a learner.
        // Later calls tell what can be done there.
        version::check(status(&client, Purpose::Stale, deadline).await?.version())?;
        let (names, sessions) = (Names::new(prefix), Sessions::new(clock.clone()));
        // No other request here needs a user.
        let asked = client.call(Purpose::Stale, deadline, |service| {
            let (mut kv, name) = (service.kv_client(), names.health());
            let count = GetOptions::new().with_count_only().with_serializable();
            async move { kv.get(name, Some(count)).await }
        });
        let seen = match asked.await {
            Ok(answer) => answer.header().map_or(0, ResponseHeader::revision),
            Err(e) if e.kind() == ErrorKind::PermissionDenied => 0,
            Err(e) => return Err(e),
        };
        client.opened();
        let (capabilities, seen) = (capabilities(names.prefix()), AtomicI64::new(seen));
        let (ttl_leases, tasks) = (TtlLeases::default(), Tasks::default());
        Ok(Self { client, names, clock, capabilities, sessions, ttl_leases, tasks, seen })
    }

    /// Reads one range.
    pub(crate) async fn range(
        &self,
        purpose: Purpose,
        deadline: Deadline,
        start: &[u8],
        options: GetOptions,
    ) -> Result<GetResponse> {
        let answer = self
            .client
            .call(purpose, deadline, |service| {
                let mut kv = service.kv_client().max_decoding_message_size(ANSWER);
                let (start, options) = (start.to_vec(), options.clone());
                async move { kv.get(start, Some(options)).await }
            })
            .await?;
        self.saw(answer.header());
        Ok(answer)
    }

    /// Sends one transaction.
    pub(crate) async fn txn(&self, purpose: Purpose, deadline: Deadline, txn: Txn) -> Result<TxnResponse> {
        self.noted_txn(purpose, deadline, txn, || {}).await
    }

    /// Sends one transaction as [`txn`](Self::txn) does, and calls `sending` before each attempt.
    pub(crate) async fn noted_txn(
        &self,
        purpose: Purpose,
        deadline: Deadline,
        txn: Txn,
        sending: impl Fn(),
    ) -> Result<TxnResponse> {
        let answer = self
            .client
            .call(purpose, deadline, |service| {
                sending();
                let mut kv = service.kv_client().max_decoding_message_size(ANSWER);
                let txn = txn.clone();
                async move { kv.txn(txn).await }
            })
            .await?;
        self.saw(answer.header());
        Ok(answer)
    }

    /// Returns what asks for leases.
    pub(crate) fn granter(&self) -> Granter {
        let (clock, client, tasks) = (self.clock.clone(), self.client.clone(), self.tasks.clone());
        Granter { clock, client, tasks }
    }

    /// Returns the revision of the last answer.
    pub(crate) fn seen(&self) -> i64 {
        self.seen.load(Ordering::Relaxed)
    }

    /// Notes the revision of an answer.
    pub(crate) fn saw(&self, header: Option<&ResponseHeader>) {
        self.seen.store(header.map_or(0, ResponseHeader::revision), Ordering::Relaxed);
    }

    /// Asks whether the server answers here, and who its members are.
    pub(crate) async fn health(&self, deadline: Deadline) -> Result<Health> {
        let count = GetOptions::new().with_count_only();
        self.range(Purpose::Read, deadline, &self.names.health(), count).await?;
        let status = status(&self.client, Purpose::Read, deadline).await?;
        let mut health = Health::new(status.version());
        // A server may keep the list of members to administrators.
        let members = self.client.call(Purpose::Read, deadline, |service| {
            let mut cluster = service.cluster_client();
            async move { cluster.member_list().await }
        });
        if let Ok(members) = members.await {
            let called = |m: &Member| match m.name() {
                "" => format!("{:x}", m.id()),
                name => name.to_owned(),
            };
            health.leader = members.members().iter().find(|m| m.id() == status.leader()).map(called);
            health.members = members.members().iter().map(called).collect();
        }
        Ok(health)
    }

    /// Gives back what was taken, and ends the sessions and the connections.
    pub(crate) async fn close(&self) -> Result<()> {
        // Keys live on under the leases of their TTLs, and cost no request here. A lease under
        // which nothing was put is of no use to anybody, and might stay for years.
        self.ttl_leases.end();
        // Contenders end with the sessions of their locks, so that neither has to wait for the
        // other.
        let others = Deadline::after(GIVEN_BACK).limit(self.tasks.finish());
        let (given_back, ended) = tokio::join!(others, self.sessions.end());
        self.client.close();
        given_back.map(|given_back| given_back.and(ended)).unwrap_or_else(|| {
            let why =
                format!("what was in use could not be given back within {GIVEN_BACK:?}; it ends by its TTL");
            Err(Error::new(ErrorKind::Timeout, why))
        })
    }
}

async fn status(client: &Client, purpose: Purpose, deadline: Deadline) -> Result<StatusResponse> {
    let request = |service: &Service| {
        let mut maintenance = service.maintenance_client();
        async move { maintenance.status().await }
    };
    client.call(purpose, deadline, request).await
}
