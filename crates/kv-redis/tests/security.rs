//! Passwords, users, TLS with client certificates; and the errors for wrong ones.

mod common;

use common::{
    Node, Reply,
    open::{refused, works},
    single, with, with_tls,
};
use kv_core::{Durability, ErrorKind, Tls};
use kv_redis::Config;
use kv_testsuite::{Certificates, Failure, Rotation, opening::DEADLINE, process::Port, tls};
use std::time::Duration;

/// Starts a server that speaks TLS on one port and plain text on another, and returns it with the
/// address for TLS.
async fn server(
    certificates: &Certificates,
    kind: &str,
    of_clients: &str,
) -> Result<(Node, String), Failure> {
    let port = Port::new()?;
    let settings = with_tls(certificates, port.address(), of_clients);
    let settings: Vec<_> = settings.iter().map(String::as_str).collect();
    Ok((with(kind, &settings).await?, port.address().to_string()))
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_with_client_certificates() -> Result<(), Failure> {
    for kind in ["redis", "redis8", "valkey"] {
        let ours = Certificates::new()?;
        let (_node, address) = server(&ours, kind, "yes").await?;
        let config = || Config::new([&*address]).prefix("tls/").deadline(DEADLINE);
        let open = async |tls: Tls| config().tls(tls).open().await;
        let url =
            async |parameters: String| kv_redis::open(&format!("rediss://{address}/tls/?{parameters}")).await;
        tls::client_certificates(&ours, &open, &url).await?;
        tls::server_names(&ours, &open, &url).await?;
    }
    Ok(())
}

/// All files are replaced, and the server restarted with its own: the open store goes on, its
/// watches too.
#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_read_again() -> Result<(), Failure> {
    let certificates = Rotation::new()?;
    let (node, address) = server(&certificates.server, "redis", "yes").await?;
    let config = Config::new([&*address]).prefix("tls/").tls(certificates.client.of_client());
    let kv = config.open().await?;
    tls::rotation(&kv, &certificates, || node.daemon.kill(), async || node.start().await).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_the_other_kind_is_named() -> Result<(), Failure> {
    let ours = Certificates::new()?;
    let (node, address) = server(&ours, "redis", "no").await?;
    let config = Config::new([node.address.to_string()]).tls(Tls::new().ca(ours.file("ca.pem")));
    let e = refused(config, ErrorKind::InvalidArgument, "does not speak TLS").await?;
    assert!(e.to_string().contains(&node.address.to_string()), "{e}");
    // Plain text to a port of TLS: the server hangs up without a reason.
    let e = Config::new([&*address]).deadline(Duration::from_secs(1)).open().await.unwrap_err();
    assert!(e.to_string().contains(&address), "{e}");
    assert!(e.to_string().contains("TLS"), "{e}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_for_all() -> Result<(), Failure> {
    let node = with("redis", &["--requirepass", "our-word"]).await?;
    let config = || Config::new([node.address.to_string()]).prefix("mine/");
    works(config().password("our-word")).await?;
    kv_redis::open(&format!("redis://:our-word@{}/mine/", node.address)).await?;
    let wrong =
        refused(config().password("wrong-word"), ErrorKind::Unauthenticated, "user and password").await?;
    assert!(!format!("{wrong} {wrong:?} {:?}", wrong.cause()).contains("wrong-word"));
    refused(config(), ErrorKind::Unauthenticated, "asks for a user").await?;
    Ok(())
}

/// Starts a server with the user `me`, who may do all that is not dangerous to names below
/// `mine/`.
async fn with_users(kind: &str) -> Result<Node, Failure> {
    let node = single(kind).await?;
    let mut resp = node.resp().await?;
    let me = "ACL SETUSER me on >my-word ~mine/* &mine/* +@all -@dangerous";
    assert_eq!(resp.say(me).await?, Reply::Text(b"OK".into()));
    Ok(node)
}

#[tokio::test(flavor = "multi_thread")]
async fn users_and_rights() -> Result<(), Failure> {
    for kind in ["redis", "redis8", "valkey"] {
        let node = with_users(kind).await?;
        let config = || Config::new([node.address.to_string()]).prefix("mine/").user("me", "my-word");
        works(config()).await?;
        let kv = config().open().await?;
        assert_eq!(kv.capabilities().durability, Durability::MayLose, "it may not be asked");
        refused(config().user("me", "wrong-word"), ErrorKind::Unauthenticated, "user and password").await?;

        refused(config().prefix("yours/"), ErrorKind::PermissionDenied, "permission").await?;
        let mut resp = node.resp().await?;
        for (without, with) in
            [("resetkeys", "~mine/*"), ("-eval -evalsha", "+@scripting"), ("-time", "+time")]
        {
            resp.say(&format!("ACL SETUSER me {without}")).await?;
            refused(config(), ErrorKind::PermissionDenied, "").await?;
            resp.say(&format!("ACL SETUSER me {with}")).await?;
        }
        let kv = config().open().await?;
        resp.say("ACL SETUSER me resetkeys").await?;
        assert_eq!(kv.get("a").await.unwrap_err().kind(), ErrorKind::PermissionDenied);
        assert_eq!(kv.put("a", "").await.unwrap_err().kind(), ErrorKind::PermissionDenied);
        assert_eq!(kv.list("").await.unwrap_err().kind(), ErrorKind::PermissionDenied);
        let mut watch = kv.watch_tree("").await?;
        assert_eq!(watch.event().await.unwrap_err().kind(), ErrorKind::PermissionDenied);
        kv.close().await?;
    }
    Ok(())
}

/// A script that is stopped half-way is not undone; so a user who may not do all of it may not
/// begin.
#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_do_all_of_a_write_does_nothing_of_it() -> Result<(), Failure> {
    let node = with_users("redis").await?;
    let mut resp = node.resp().await?;
    let config = || Config::new([node.address.to_string()]).prefix("mine/").user("me", "my-word");
    for (without, names) in
        [("resetchannels", "SPUBLISH"), ("allchannels -zadd", "ZADD"), ("allchannels +zadd %R~mine/*", "")]
    {
        resp.say(&format!("ACL SETUSER me {without}")).await?;
        let kv = config().open().await?;
        kv.get("a").await?;
        if names.is_empty() {
            continue;
        }
        let e = kv.put("a", "1").await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::PermissionDenied, "{e}");
        assert!(e.to_string().contains(names) && e.to_string().contains("mine/"), "{e}");
        assert!(kv.get("a").await?.is_none());
        assert_eq!(resp.say("EXISTS mine/a mine/.kv/meta mine/.kv/index").await?, Reply::Number(0));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_withdrawn_end_a_watch_and_are_no_deletions() -> Result<(), Failure> {
    let node = with_users("redis").await?;
    let config = Config::new([node.address.to_string()]).prefix("mine/").user("me", "my-word");
    let kv = config.open().await?;
    kv.put("a", "1").await?;
    let mut watch = kv.watch_tree("").await?;
    for _ in ["Put", "Synced"] {
        watch.event().await?;
    }
    node.resp().await?.say("ACL SETUSER me resetkeys resetchannels").await?;
    let e = kv.list("").await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::PermissionDenied, "{e}");
    assert_eq!(watch.event().await.unwrap_err().kind(), ErrorKind::PermissionDenied);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_for_a_lock_whose_repeat_is_refused_leaves_nobody_in_line() -> Result<(), Failure> {
    kv_testsuite::repeat::is_refused(common::fire::single("redis", "redis-7").await?).await
}
