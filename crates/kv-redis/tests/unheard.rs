//! Watches whose server stops sending messages, while their connection stands, or sends fewer than
//! they need.

mod common;

use common::{Node, Reply, single};
use kv_core::{Kv, Watch, WatchEvent};
use kv_testsuite::{Failure, Proxy, failover::soon};
use std::{net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::broadcast,
};

async fn open(at: SocketAddr) -> Result<Kv, Failure> {
    Ok(kv_redis::open(&format!("redis://{at}/unheard/")).await?)
}

async fn synced(kv: &Kv, key: &str) -> Result<Watch, Failure> {
    let mut watch = kv.watch(key).await?;
    while watch.event().await? != WatchEvent::Synced {}
    Ok(watch)
}

/// Reads events until this value is told.
async fn told(watch: &mut Watch, value: &str) -> Result<(), Failure> {
    soon("the put", async {
        while !matches!(watch.event().await?, WatchEvent::Put(entry) if entry.text() == Some(value)) {}
        Ok::<_, kv_core::Error>(())
    })
    .await??;
    Ok(())
}

/// Returns the number of connections that listen to the changes of this key.
async fn listeners(node: &Node, key: &str) -> Result<Reply, Failure> {
    let channel = format!("PUBSUB SHARDNUMSUB unheard/.kv/on/0/key/{key}");
    let count = node.resp().await?.say(&channel).await?.list().pop();
    Ok(count.unwrap_or(Reply::Nothing))
}

/// Starts a relay to the server, which sends it, on each connection, the commands that come
/// through the returned channel.
async fn relay(to: SocketAddr) -> Result<(SocketAddr, broadcast::Sender<String>), Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let (at, (ask, _)) = (listener.local_addr()?, broadcast::channel::<String>(8));
    let asks = ask.clone();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut asked = asks.subscribe();
            tokio::spawn(async move {
                let mut server = TcpStream::connect(to).await?;
                let ((mut requests, mut to_client), (mut answers, mut to_server)) =
                    (client.split(), server.split());
                let there = async {
                    let mut piece = vec![0; 16 << 10];
                    loop {
                        tokio::select! {
                            Ok(ask) = asked.recv() => to_server.write_all(ask.as_bytes()).await?,
                            read = requests.read(&mut piece) => match read? {
                                0 => return Ok(()),
                                read => to_server.write_all(&piece[..read]).await?,
                            },
                        }
                    }
                };
                tokio::select! {
                    ended = there => ended,
                    ended = tokio::io::copy(&mut answers, &mut to_client) => ended.map(drop),
                }
            });
        }
    });
    Ok((at, ask))
}

/// The subscriptions of the connection itself and of other watches remain.
#[tokio::test(flavor = "multi_thread")]
async fn one_subscription_of_several_is_lost() -> Result<(), Failure> {
    for kind in ["redis", "redis8", "valkey"] {
        let node = single(kind).await?;
        let (at, ask) = relay(node.address).await?;
        let (kv, other) = (open(at).await?, open(node.address).await?);
        let (mut lost, mut kept) = (synced(&kv, "lost").await?, synced(&kv, "kept").await?);
        ask.send("SUNSUBSCRIBE unheard/.kv/on/0/key/lost\r\n".into())?;
        soon("the subscription to be lost", async {
            while listeners(&node, "lost").await? != Reply::Number(0) {}
            Ok::<_, Failure>(())
        })
        .await??;
        assert_eq!(listeners(&node, "kept").await?, Reply::Number(1));
        other.put("lost", "1").await?;
        other.put("kept", "1").await?;
        told(&mut kept, "1").await?;
        told(&mut lost, "1").await?;
        other.put("lost", "2").await?;
        told(&mut lost, "2").await?;
    }
    Ok(())
}

/// A read finds a later value than the one that it was made for. The message with that value's end
/// comes after it.
#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_was_read_before_it_was_told_ends() -> Result<(), Failure> {
    let node = single("redis").await?;
    let (kv, other) = (open(node.address).await?, open(node.address).await?);
    let mut watch = synced(&kv, "brief").await?;
    // A value as large as this is read by the watch.
    other.put("brief", vec![b'x'; 20_000]).await?;
    other.put("brief", "y").ttl(Duration::from_secs(1)).await?;
    told(&mut watch, "y").await?;
    soon("the end", async {
        while !matches!(watch.event().await?, WatchEvent::Delete { .. }) {}
        Ok::<_, kv_core::Error>(())
    })
    .await??;
    Ok(())
}

/// A value that is read by the watch is gone before that: its end is not asked for over and over.
#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_value_that_was_never_told_is_not_asked_for() -> Result<(), Failure> {
    let node = single("redis").await?;
    let (kv, other) = (open(node.address).await?, open(node.address).await?);
    let mut watch = kv.watch_tree("").await?;
    while watch.event().await? != WatchEvent::Synced {}
    other.put("brief", vec![b'x'; 20_000]).ttl(Duration::from_secs(2)).await?;
    other.delete("brief").await?;
    other.put("behind", "it").await?;
    told(&mut watch, "it").await?;
    let asked = async {
        let mut resp = node.resp().await?;
        let before = resp.calls("evalsha").await?;
        // Several times as long as the value had, and as a watch waits before it asks again.
        tokio::time::sleep(Duration::from_secs(8)).await;
        Ok::<_, Failure>(resp.calls("evalsha").await? - before)
    };
    tokio::select! {
        event = watch.event() => return Err(format!("{:?}", event?).into()),
        asked = asked => assert_eq!(asked?, 0),
    }
    Ok(())
}

/// A link dies without an end, behind the log-in of the connection that listens.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_connection_falls_silent() -> Result<(), Failure> {
    let node = single("redis").await?;
    let proxy = Proxy::start(node.address).await;
    let (kv, other) = (open(proxy.address()).await?, open(node.address).await?);
    let mut watch = synced(&kv, "a").await?;
    // The request behind the log-in. The log-in itself sends a `HELLO` with the number of the
    // protocol.
    proxy.hold_answer_to("*1\r\n$5\r\nHELLO\r\n");
    proxy.reset().await;
    proxy.trapped().await;
    proxy.strand();
    // New connections work.
    proxy.hold_answer_to("nobody asks this");
    other.put("a", "1").await?;
    told(&mut watch, "1").await
}
