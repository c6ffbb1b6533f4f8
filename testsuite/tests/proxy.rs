//! The proxy against a plain echo server.

use kv_testsuite::Proxy;
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::timeout,
};

const SOON: Duration = Duration::from_secs(10);
/// The time for which a test waits where nothing must come.
const QUIET: Duration = Duration::from_millis(50);

/// Starts an echo server; returns its address, and what it received, piece by piece.
async fn echo() -> (SocketAddr, mpsc::UnboundedReceiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (told, received) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let told = told.clone();
            tokio::spawn(async move {
                let mut bytes = [0; 1024];
                while let Ok(read @ 1..) = stream.read(&mut bytes).await {
                    let _ = told.send(bytes[..read].to_vec());
                    if stream.write_all(&bytes[..read]).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (address, received)
}

async fn connect(proxy: &Proxy) -> TcpStream {
    TcpStream::connect(proxy.address()).await.unwrap()
}

async fn answer(stream: &mut TcpStream, length: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    timeout(SOON, stream.read_exact(&mut bytes)).await.expect("an answer in time")?;
    Ok(bytes)
}

async fn call(stream: &mut TcpStream, bytes: &[u8]) -> std::io::Result<()> {
    stream.write_all(bytes).await?;
    assert_eq!(answer(stream, bytes.len()).await?, bytes);
    Ok(())
}

async fn silent(stream: &mut TcpStream) {
    assert!(timeout(QUIET, stream.read_u8()).await.is_err(), "a byte came through, or the end");
}

#[tokio::test]
async fn forwards_many_connections_and_counts() {
    let (server, _received) = echo().await;
    let proxy = Proxy::start(server).await;
    let calls = (0..50).map(|n| {
        let address = proxy.address();
        tokio::spawn(async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            call(&mut stream, format!("message {n:04}").as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            assert_eq!(stream.read(&mut [0]).await.unwrap(), 0, "the end is passed on");
        })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.unwrap();
    }
    let traffic = proxy.traffic();
    assert_eq!((traffic.connections, traffic.to_server, traffic.to_client), (50, 600, 600));
}

#[tokio::test]
async fn large_streams_arrive_whole() {
    let (server, _received) = echo().await;
    let proxy = Proxy::start(server).await;
    let sent: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
    let (mut read, mut write) = connect(&proxy).await.into_split();
    let mut came = vec![0; sent.len()];
    let (wrote, got) = tokio::join!(write.write_all(&sent), read.read_exact(&mut came));
    wrote.unwrap();
    got.unwrap();
    assert!(came == sent);
}

#[tokio::test]
async fn a_cut_resets_and_refuses_until_healed() {
    let (server, _received) = echo().await;
    let proxy = Proxy::start(server).await;
    let mut stream = connect(&proxy).await;
    call(&mut stream, b"before").await.unwrap();
    for _ in 0..3 {
        proxy.cut().await;
        assert_eq!(proxy.traffic().open, 0);
        let refused = TcpStream::connect(proxy.address()).await.unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        proxy.cut().await; // once more changes nothing
        proxy.heal().await;
        call(&mut connect(&proxy).await, b"after").await.unwrap();
    }
    let reset = answer(&mut stream, 1).await.unwrap_err();
    assert_eq!(reset.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_reset_takes_new_connections() {
    let (server, _received) = echo().await;
    let proxy = Proxy::start(server).await;
    let mut stream = connect(&proxy).await;
    call(&mut stream, b"before").await.unwrap();
    proxy.reset().await;
    assert!(answer(&mut stream, 1).await.is_err());
    call(&mut connect(&proxy).await, b"after").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_ends_a_connection_that_has_just_come() {
    let (server, _received) = echo().await;
    let proxy = Proxy::start(server).await;
    for n in 0..2000 {
        // The connection is accepted at the moment of the cut, or not yet.
        let mut stream = connect(&proxy).await;
        timeout(SOON, proxy.cut()).await.unwrap_or_else(|_| panic!("cut {n} waits for a connection"));
        assert!(answer(&mut stream, 1).await.is_err(), "cut {n} left a connection");
        proxy.heal().await;
    }
}

#[tokio::test]
async fn a_freeze_holds_and_a_thaw_delivers() {
    let (server, mut received) = echo().await;
    let proxy = Proxy::start(server).await;
    let mut stream = connect(&proxy).await;
    call(&mut stream, b"before").await.unwrap();
    received.recv().await.unwrap();

    proxy.freeze();
    stream.write_all(b"frozen").await.unwrap();
    let mut other = connect(&proxy).await;
    other.write_all(b"frozen").await.unwrap();
    silent(&mut stream).await;
    silent(&mut other).await;
    assert!(received.try_recv().is_err(), "the server got what was frozen");

    proxy.thaw();
    assert_eq!(answer(&mut stream, 6).await.unwrap(), b"frozen");
    assert_eq!(answer(&mut other, 6).await.unwrap(), b"frozen");
}

#[tokio::test]
async fn one_direction_freezes_alone() {
    let (server, mut received) = echo().await;
    let proxy = Proxy::start(server).await;
    let mut stream = connect(&proxy).await;

    proxy.freeze_answers();
    stream.write_all(b"heard").await.unwrap();
    assert_eq!(timeout(SOON, received.recv()).await.unwrap().unwrap(), b"heard");
    silent(&mut stream).await;
    proxy.thaw();
    assert_eq!(answer(&mut stream, 5).await.unwrap(), b"heard");

    proxy.freeze_requests();
    stream.write_all(b"unheard").await.unwrap();
    silent(&mut stream).await;
    assert!(received.try_recv().is_err());
    proxy.heal().await;
    assert_eq!(answer(&mut stream, 7).await.unwrap(), b"unheard");
}

#[tokio::test]
async fn stranded_connections_stay_silent_and_new_ones_work() {
    let (server, _received) = echo().await;
    let proxy = Proxy::start(server).await;
    let mut stream = connect(&proxy).await;
    call(&mut stream, b"before").await.unwrap();
    proxy.strand();
    stream.write_all(b"lost").await.unwrap();
    silent(&mut stream).await;
    call(&mut connect(&proxy).await, b"fine").await.unwrap();
}

#[tokio::test]
async fn an_answer_is_held_and_lost() {
    let (server, mut received) = echo().await;
    let proxy = Proxy::start(server).await;
    let mut stream = connect(&proxy).await;
    proxy.hold_answer_to("needle");
    call(&mut stream, b"hay, need").await.unwrap();
    assert!(timeout(QUIET, proxy.trapped()).await.is_err());
    // The bytes may lie in two pieces.
    stream.write_all(b"le, hay").await.unwrap();
    timeout(SOON, proxy.trapped()).await.unwrap();
    assert_eq!(received.recv().await.unwrap(), b"hay, need");
    assert_eq!(timeout(SOON, received.recv()).await.unwrap().unwrap(), b"le, hay");
    silent(&mut stream).await;
    proxy.reset().await;
    assert!(answer(&mut stream, 1).await.is_err(), "the answer was to be lost");
    proxy.heal().await;
    call(&mut connect(&proxy).await, b"needle").await.unwrap();
}

#[tokio::test]
async fn a_delay_is_kept() {
    let (server, _received) = echo().await;
    let proxy = Proxy::start(server).await;
    let mut stream = connect(&proxy).await;
    proxy.delay(Duration::from_millis(100));
    let began = Instant::now();
    call(&mut stream, b"slow").await.unwrap();
    assert!(began.elapsed() >= Duration::from_millis(200), "{:?}", began.elapsed());
}

#[tokio::test]
async fn what_was_answered_can_be_waited_for() {
    let (server, _received) = echo().await;
    let proxy = Proxy::start(server).await;
    let before = proxy.traffic().to_client;
    let mut stream = connect(&proxy).await;
    let (called, ()) = tokio::join!(call(&mut stream, b"x"), proxy.answered_beyond(before));
    called.unwrap();
}

#[tokio::test]
async fn a_server_that_is_gone_ends_the_connection() {
    let (server, _received) = echo().await;
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    assert_ne!(server, gone);
    let proxy = Proxy::start(gone).await;
    assert!(answer(&mut connect(&proxy).await, 1).await.is_err());
}

#[tokio::test]
async fn dropping_it_ends_everything() {
    let (server, _received) = echo().await;
    let proxy = Proxy::start(server).await;
    let address = proxy.address();
    let mut stream = connect(&proxy).await;
    call(&mut stream, b"before").await.unwrap();
    drop(proxy);
    assert!(answer(&mut stream, 1).await.is_err());
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn answers_in_the_servers_place() {
    let (server, mut received) = echo().await;
    let proxy = Proxy::start(server).await;
    let mut early = connect(&proxy).await;
    call(&mut early, b"hello").await.unwrap();
    let theirs = b"HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\n404 page not found\n";
    proxy.answer_for_server(theirs).await;
    assert!(answer(&mut early, 1).await.is_err(), "what was connected to the server is reset");
    let asked: [&[&[u8]]; 3] = [
        &[b"GET /v1/kv/a HTTP/1.1\r\nHost: a\r\n", b"\r\n"],
        &[b"PUT /v1/kv/a HTTP/1.1\r\nContent-Length: 4\r\n\r\n", b"body"],
        &[b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n", b"0\r\n\r\n"],
    ];
    for pieces in asked {
        let mut stream = connect(&proxy).await;
        for piece in pieces {
            silent(&mut stream).await;
            stream.write_all(piece).await.unwrap();
        }
        let mut all = Vec::new();
        timeout(SOON, stream.read_to_end(&mut all)).await.expect("an answer in time").unwrap();
        assert_eq!(all, theirs);
    }
    let mut idle = connect(&proxy).await;
    silent(&mut idle).await;
    proxy.heal().await;
    assert!(answer(&mut idle, 1).await.is_err(), "what is not the server's ends with the trouble");
    let mut stream = connect(&proxy).await;
    call(&mut stream, b"again").await.unwrap();
    assert_eq!(received.recv().await.unwrap(), b"hello");
    assert_eq!(received.recv().await.unwrap(), b"again", "the server heard nothing meanwhile");
}

#[tokio::test]
async fn holds_the_answer_to_whatever_is_asked_next() {
    let (server, mut received) = echo().await;
    let proxy = Proxy::start(server).await;
    let mut stream = connect(&proxy).await;
    proxy.hold_next_answer();
    stream.write_all(b"x").await.unwrap();
    timeout(SOON, proxy.trapped()).await.expect("the next request springs it");
    assert_eq!(received.recv().await.unwrap(), b"x");
    silent(&mut stream).await;
    proxy.heal().await;
    assert_eq!(answer(&mut stream, 1).await.unwrap(), b"x");
}
