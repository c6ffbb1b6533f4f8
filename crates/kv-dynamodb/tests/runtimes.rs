//! Handles of which one runtime stands still in the middle of its calls: nobody elsewhere waits for
//! what it has begun.

mod common;

use common::{front::Front, single};
use kv_core::Kv;
use kv_dynamodb::Config;
use kv_testsuite::{Failure, process::Port};
use std::{
    future::{IntoFuture, poll_fn},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    runtime::{Builder, Runtime},
    task::yield_now,
};

const TABLE: &str = "runtimes";

fn runtimes() -> Result<(Runtime, Runtime), Failure> {
    let goes_on = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    Ok((goes_on, Builder::new_current_thread().enable_all().build()?))
}

/// Begins so many calls, and leaves each after its first poll.
async fn leave(calls: impl Iterator<Item = impl Future<Output = ()> + Send + 'static>) {
    let (begun, mut most) = (Arc::<AtomicUsize>::default(), 0);
    for call in calls {
        let (mut call, begun, mut is_new) = (Box::pin(call), begun.clone(), true);
        tokio::spawn(poll_fn(move |cx| {
            let answer = call.as_mut().poll(cx);
            if std::mem::take(&mut is_new) {
                begun.fetch_add(1, SeqCst);
            }
            answer
        }));
        most += 1;
    }
    while begun.load(SeqCst) < most {
        yield_now().await;
    }
    // What they spawn begins too.
    for _ in 0..3 {
        yield_now().await;
    }
}

#[test]
fn calls_and_renewals_do_not_wait_for_those_of_a_runtime_that_stands_still() -> Result<(), Failure> {
    let (goes_on, stands_still) = runtimes()?;
    let ttl = Duration::from_secs(8);
    let (_node, kv) = goes_on.block_on(async {
        let node = single().await?;
        let kv = node.open(TABLE).await?;
        kv.put("a", "").await?;
        Ok::<_, Failure>((node, kv))
    })?;
    stands_still.block_on(async {
        let mut guards = Vec::new();
        for n in 0..20 {
            guards.push(kv.new_lock(format!("l/{n}")).acquire().await?);
        }
        leave((0..100).map(|_| kv.get("a").into_future()).map(|get| async { drop(get.await) })).await;
        leave(guards.into_iter().map(|guard| async { drop(guard.release().await) })).await;
        Ok::<_, Failure>(())
    })?;
    goes_on.block_on(async {
        assert!(kv.get("a").await.map_err(|e| format!("beside calls under way: {e}"))?.is_some());
        let guard = kv.new_lock("l").ttl(ttl).acquire().await?;
        tokio::time::sleep(ttl * 3 / 2).await;
        assert!(guard.is_held(), "no renewal was sent");
        assert!(guard.release().await?);
        Ok(())
    })
}

/// Serves credentials: those of this number, which is the access key too, are never answered.
async fn serve(credentials: TcpListener, silent: usize, asked: Arc<AtomicUsize>) -> std::io::Result<()> {
    loop {
        let (mut client, _) = credentials.accept().await?;
        let n = asked.fetch_add(1, SeqCst) + 1;
        tokio::spawn(async move {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(client.read_u8().await?);
            }
            if n == silent {
                std::future::pending::<()>().await;
            }
            let key = if n < silent { "first" } else { "second" };
            let body = format!(
                r#"{{"AccessKeyId":"{key}","SecretAccessKey":"s","Token":"t","Expiration":"2099-01-01T00:00:00Z"}}"#
            );
            let length = body.len();
            let head =
                format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n");
            client.write_all(format!("{head}connection: close\r\n\r\n{body}").as_bytes()).await
        });
    }
}

const PORT: &str = "KV_TESTS_CREDENTIALS_PORT";

/// Runs this test again, in a process of its own that has its credentials from that server.
fn in_process_with_credentials(test: &str, port: u16) -> Result<(), Failure> {
    let mut again = Command::new(std::env::current_exe()?);
    again.args([test, "--exact", "--nocapture"]).env(PORT, port.to_string());
    again.env("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("http://127.0.0.1:{port}/"));
    again.env("AWS_EC2_METADATA_DISABLED", "true");
    for file in ["AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"] {
        again.env(file, "/nonexistent");
    }
    for set in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"] {
        again.env_remove(set);
    }
    let answer = again.output()?;
    let said = String::from_utf8_lossy(&answer.stdout);
    assert!(answer.status.success() && said.contains("1 passed"), "{said}{answer:?}");
    Ok(())
}

#[test]
fn credentials_do_not_wait_for_those_of_a_runtime_that_stands_still() -> Result<(), Failure> {
    let Some(port) = std::env::var(PORT).ok().and_then(|port| port.parse::<u16>().ok()) else {
        let free = Port::new()?;
        return in_process_with_credentials(
            "credentials_do_not_wait_for_those_of_a_runtime_that_stands_still",
            free.address().port(),
        );
    };
    let (goes_on, stands_still) = runtimes()?;
    let asked = Arc::<AtomicUsize>::default();
    let (_node, front, kv): (_, _, Kv) = goes_on.block_on(async {
        let credentials = TcpListener::bind(("127.0.0.1", port)).await?;
        tokio::spawn(serve(credentials, 3, asked.clone()));
        let node = single().await?;
        let front = Front::new(node.address).await?;
        front.knows("first");
        let settings = Config::new(TABLE).endpoint(format!("http://{}", front.address)).region("us-east-1");
        let kv = settings.create(true).open().await?;
        kv.put("a", "").await?;
        Ok::<_, Failure>((node, front, kv))
    })?;
    stands_still.block_on(async {
        assert!(kv.get("a").await?.is_some());
        asked.store(2, SeqCst);
        front.knows("second");
        leave([kv.get("a").into_future()].into_iter().map(|get| async { drop(get.await) })).await;
        // It fetches them anew, and is not answered.
        while asked.load(SeqCst) < 3 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok::<_, Failure>(())
    })?;
    goes_on.block_on(async {
        assert!(
            kv.get("a").await.map_err(|e| format!("beside one who waits for credentials: {e}"))?.is_some()
        );
        Ok(())
    })
}
