//! The tests that backends share beside the suite: on a store that keeps its promises, whose
//! server does not do what the test is about, each is red.

use futures::FutureExt;
use kv_core::{ErrorKind, Kv, Tls, driver::async_trait};
use kv_memory::Config;
use kv_testsuite::{
    Certificates, Failure, Harness, Rotation, Troubles, failover, leavings, opening, requests::Costs, rights,
    rights::Rights, tls, torture::nemesis::Stroke,
};
use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

async fn open() -> kv_core::Result<Kv> {
    Config::new().open().await
}

/// Checks that a piece is red, and says this.
fn is_red<T>(piece: Result<T, Failure>, says: &str) {
    let said = piece.map(drop).expect_err("it is red").to_string();
    assert!(said.contains(says), "{said:?} says {says:?}");
}

/// Checks that a promise is found broken, and that the message says this.
async fn is_broken<T>(piece: impl Future<Output = T>, says: &str) {
    let said = AssertUnwindSafe(piece).catch_unwind().await.err().expect("it panics");
    let said = said.downcast_ref::<String>().map_or("", String::as_str);
    assert!(said.contains(says), "{said:?} says {says:?}");
}

/// Opens a store of a cluster whose members are never away.
async fn open_cluster() -> Result<Kv, Failure> {
    Ok(Config::new().name("cluster").open().await?)
}

async fn nothing_happens() -> Result<(), Failure> {
    Ok(())
}

/// The members lose a lock while one is away, or a key with a lease when it is back.
#[tokio::test]
async fn members_that_lose_what_they_hold() -> Result<(), Failure> {
    let admin = Config::new().name("cluster").build().await?;
    failover::goes_on(open_cluster, nothing_happens, nothing_happens).await?;
    let lose_locks = async || {
        for run in 0..9 {
            admin.evict_lock(format!("run{run}/l"))?;
        }
        Ok(())
    };
    is_broken(Box::pin(failover::goes_on(open_cluster, lose_locks, nothing_happens)), "LockLost").await;
    let lose_keys = async || {
        for run in 0..9 {
            admin.raw_delete(&format!("run{run}/leased"));
        }
        Ok(())
    };
    is_broken(Box::pin(failover::goes_on(open_cluster, nothing_happens, lose_keys)), "w/while-away").await;
    Ok(())
}

/// A store that opens with whatever certificates, and that no certificate keeps from anything.
#[tokio::test]
async fn certificates_that_nobody_looks_at() -> Result<(), Failure> {
    is_red(opening::refused(open(), ErrorKind::Unauthenticated, "`ca`").await, "opened");
    is_red(opening::unreachable(open()).await, "nobody listens there");
    opening::works(open()).await?;
    let ours = Certificates::new()?;
    let by_settings = async |_: Tls| open().await;
    let by_url = async |_: String| open().await;
    is_red(tls::client_certificates(&ours, &by_settings, &by_url).await, "opened");
    is_red(tls::server_names(&ours, &by_settings, &by_url).await, "opened");
    let rotated = tls::rotation(&open().await?, &Rotation::new()?, || (), async || Ok(())).await;
    is_red(rotated, "late: answered by a server that is not trusted");
    Ok(())
}

/// A server whose users keep all rights.
struct Unguarded(&'static str);

#[async_trait]
impl Rights for Unguarded {
    const TTL: Duration = Duration::from_secs(5);
    async fn open(&self) -> Result<Kv, Failure> {
        Ok(Config::new().name(self.0).open().await?)
    }
    async fn open_of_another(&self) -> Result<Kv, Failure> {
        Rights::open(self).await
    }
    async fn two_in_line(&self, _: &str) -> Result<(), Failure> {
        Ok(())
    }
    async fn withdraw(&self) -> Result<(), Failure> {
        Ok(())
    }
}

#[async_trait]
impl Harness for Unguarded {
    fn name(&self) -> String {
        self.0.into()
    }
    async fn open(&self, prefix: &str) -> kv_core::Result<Kv> {
        Config::new().name(self.0).prefix(prefix).open().await
    }
    fn troubles(&self) -> Option<Arc<dyn Troubles>> {
        Some(Arc::new(Self(self.0)))
    }
}

#[async_trait]
impl Troubles for Unguarded {
    fn known(&self) -> Vec<Stroke> {
        vec![Stroke::Rights]
    }
    async fn begin(&self, _: Stroke, _: usize) -> Result<(), Failure> {
        Ok(())
    }
    async fn end(&self, _: Stroke) -> Result<(), Failure> {
        Ok(())
    }
}

#[tokio::test]
async fn rights_that_are_not_withdrawn() {
    let says = "given back without rights";
    is_red(rights::ends_while_others_are_waited_for(&Unguarded("others")).await, says);
    is_red(rights::ends_while_it_is_waited_for(&Unguarded("it")).await, says);
    is_red(rights::ends_by_its_ttl(Unguarded("ttl"), Duration::from_secs(5)).await, says);
}

#[tokio::test]
async fn things_that_stay() -> Result<(), Failure> {
    let ttl = Duration::from_secs(600);
    let stays = async || Ok(vec!["a lease".to_owned()]);
    is_red(leavings::none(open().await?, ttl, stays).await, "a lease");
    is_red(leavings::none(open().await?, ttl, async || Ok(Vec::new())).await, "nothing is seen");
    Ok(())
}

#[tokio::test]
async fn requests_that_are_too_many_or_none() -> Result<(), Failure> {
    for (sent, of_puts, is_kept) in [(1, 1..=1, true), (2, 1..=2, true), (2, 1..=1, false), (0, 1..=2, false)]
    {
        let others = [("put", of_puts)];
        let costs = Costs::new(async || Ok(vec!["a request".to_owned(); sent]), &others);
        let put = costs.of("put", open().await?.put("k", "")).await;
        assert_eq!(put.is_ok(), is_kept, "{put:?}");
    }
    let one = Costs::new(async || Ok(vec!["a request".to_owned()]), &[]);
    one.of_each_call(&open().await?, 20, Some(20)).await?;
    let none = Costs::new(async || Ok(Vec::new()), &[]);
    is_red(none.of_each_call(&open().await?, 20, Some(20)).await, "put of a new key: 0 requests");
    Ok(())
}
