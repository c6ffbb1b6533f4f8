//! A server with little memory.

use super::{Node, Reply, Resp, with};
use kv_core::{Kv, Result, driver::async_trait};
use kv_testsuite::{Failure, Full};

pub struct Tight(Node);

impl Tight {
    pub async fn start(kind: &str) -> Result<Self, Failure> {
        Ok(Self(with(kind, &["--maxmemory", "12mb"]).await?))
    }

    /// Writes until this size is refused.
    async fn until_refused(resp: &mut Resp, size: usize) -> Result<(), Failure> {
        let value = vec![b'x'; size];
        for n in 0.. {
            let name = format!("ballast/{size}/{n}");
            if let Reply::Error(why) = resp.ask(&[b"SET", name.as_bytes(), &value]).await? {
                return if why.starts_with("OOM") { Ok(()) } else { Err(why.into()) };
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Full for Tight {
    async fn open(&self, prefix: &str) -> Result<Kv> {
        kv_redis::open(&format!("redis://{}/{prefix}", self.0.address)).await
    }

    async fn fill(&self) {
        let filled = async {
            let resp = &mut self.0.resp().await?;
            for size in [10_000, 100, 1] {
                Self::until_refused(resp, size).await?;
            }
            // With this limit, deletions of the library make no room.
            assert_eq!(resp.say("CONFIG SET maxmemory 1mb").await?, Reply::Text(b"OK".into()));
            Ok::<_, Failure>(())
        };
        filled.await.expect("the server serves");
    }

    async fn relieve(&self) {
        let relieved = async { self.0.resp().await?.say("CONFIG SET maxmemory 0").await };
        assert_eq!(relieved.await.expect("the server serves"), Reply::Text(b"OK".into()));
    }
}
