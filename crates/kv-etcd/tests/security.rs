//! TLS, client certificates, users and passwords; and the errors for wrong ones.

mod common;

use common::{Node, Setup, nodes};
use kv_core::{Error, ErrorKind, Secret, Tls, WatchEvent};
use kv_etcd::Config;
use kv_testsuite::{Certificates, Failure, Harness, failover::soon, process::run, torture::nemesis::Stroke};
use std::time::{Duration, Instant};

/// Starts a server that speaks TLS alone.
async fn server(certificates: &Certificates, only_known_clients: bool) -> Result<Node, Failure> {
    let mut more = vec![
        format!("--cert-file={}", certificates.file("server.pem").display()),
        format!("--key-file={}", certificates.file("server.key").display()),
    ];
    if only_known_clients {
        let ca = format!("--trusted-ca-file={}", certificates.file("ca.pem").display());
        more.extend(["--client-cert-auth".into(), ca]);
    }
    let node = nodes(&Setup { tls: true, more, ..Setup::single("etcd") }, 1)?.remove(0);
    node.start().await?;
    Ok(node)
}

/// Checks that opening is refused, in this way, without waiting for the deadline; returns the
/// error.
async fn refused(config: Config, kind: ErrorKind, names: &str) -> Result<Error, Failure> {
    let begun = Instant::now();
    let error = match config.deadline(Duration::from_secs(30)).open().await {
        Ok(store) => return Err(format!("opened {store:?}").into()),
        Err(e) => e,
    };
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(names), "{error} names {names:?}");
    assert!(begun.elapsed() < Duration::from_secs(15), "at once, not after {:?}", begun.elapsed());
    assert!(!error.is_transient(), "{error}");
    Ok(error)
}

async fn works(config: Config) -> Result<(), Failure> {
    let kv = config.open().await?;
    kv.put("a", "1").ttl(Duration::from_secs(60)).await?;
    assert!(kv.exists("a").await?);
    let mut watch = kv.watch_tree("").await?;
    watch.event().await?;
    kv.new_lock("l").acquire().await?.release().await?;
    assert!(!kv.health().await?.version.is_empty());
    kv.close().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_with_client_certificates() -> Result<(), Failure> {
    let (ours, theirs) = (Certificates::new()?, Certificates::new()?);
    let node = server(&ours, true).await?;
    let config = || Config::new([node.address.to_string()]).prefix("tls/");
    let certified =
        |c: &Certificates| Tls::new().client_certificate(c.file("client.pem"), c.file("client.key"));

    works(config().tls(certified(&ours).ca(ours.file("ca.pem")))).await?;
    let (ca, cert, key) = (ours.file("ca.pem"), ours.file("client.pem"), ours.file("client.key"));
    let url = format!(
        "etcd://{}/tls/?ca={}&cert={}&key={}&server_name=localhost",
        node.address,
        ca.display(),
        cert.display(),
        key.display()
    );
    kv_etcd::open(&url).await?.get("a").await?;

    refused(config().tls(certified(&ours).ca(theirs.file("ca.pem"))), ErrorKind::Unauthenticated, "`ca`")
        .await?;
    refused(config().tls(certified(&ours)), ErrorKind::Unauthenticated, "`ca`").await?;
    refused(
        config().tls(Tls::new().ca(ours.file("ca.pem"))),
        ErrorKind::Unauthenticated,
        "client certificate",
    )
    .await?;
    refused(
        config().tls(certified(&theirs).ca(ours.file("ca.pem"))),
        ErrorKind::Unauthenticated,
        "client certificate",
    )
    .await?;
    let misnamed = config().tls(certified(&ours).ca(ours.file("ca.pem")).server_name("elsewhere"));
    refused(misnamed, ErrorKind::Unauthenticated, "`server_name`").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_tls_is_named() -> Result<(), Failure> {
    let ours = Certificates::new()?;
    let node = common::single("etcd").await?;
    let config = Config::new([node.address.to_string()]).tls(Tls::new().ca(ours.file("ca.pem")));
    let e = refused(config, ErrorKind::InvalidArgument, "does not speak TLS").await?;
    assert!(e.to_string().contains(&node.address.to_string()), "{e}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_wants_tls_is_named() -> Result<(), Failure> {
    // The server closes the connection, which one that is starting may do too: so opening is tried
    // until the deadline.
    let certificates = Certificates::new()?;
    let node = server(&certificates, false).await?;
    let e =
        Config::new([node.address.to_string()]).deadline(Duration::from_secs(1)).open().await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unavailable, "{e}");
    for names in [node.address.to_string().as_str(), "if it wants TLS", "`ca`"] {
        assert!(e.to_string().contains(names), "{e} names {names:?}");
    }
    Ok(())
}

#[tokio::test]
async fn half_given_settings_are_refused_before_any_connection() -> Result<(), Failure> {
    let nobody = || Config::new(["127.0.0.1:1"]);
    for (url, names) in [
        ("etcd://127.0.0.1:1/?cert=c.pem", "`cert` without `key`"),
        ("etcd://127.0.0.1:1/?key=k.pem", "`key` without `cert`"),
        ("etcd://127.0.0.1:1/?tls=false&server_name=n", "`tls` is off"),
        ("etcd://127.0.0.1:1/?ca=/no/such/file", "/no/such/file"),
        ("etcd://me@127.0.0.1:1/", "without a password"),
        ("etcd:///prefix", "no host"),
        ("etcds://127.0.0.1:1/", "\"etcds\" is not the scheme of this store, which is \"etcd\""),
    ] {
        let e = kv_etcd::open(url).await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::InvalidArgument, "{e}");
        assert!(e.to_string().contains(names), "{e} names {names:?}");
    }
    let rubbish = tempfile::NamedTempFile::new()?;
    std::fs::write(rubbish.path(), "no PEM")?;
    let config = nobody().tls(Tls::new().client_certificate(rubbish.path(), rubbish.path()));
    refused(config, ErrorKind::InvalidArgument, "TLS settings").await?;
    Ok(())
}

#[tokio::test]
async fn a_wrong_address_says_what_was_tried() {
    let config = Config::new(["127.0.0.1:1"]).deadline(Duration::from_millis(500));
    let e = config.open().await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unavailable, "{e}");
    assert!(e.to_string().contains("127.0.0.1:1"), "{e}");
    assert!(e.to_string().contains("refused"), "{e}");
}

/// Switches authentication on, with `root` and with `me`, who may touch what lies below `mine/`.
fn with_users(node: &Node) -> Result<(), Failure> {
    let ctl = |arguments: &[&str]| {
        let mut command = node.etcdctl();
        command.args(arguments);
        run(command, b"")
    };
    ctl(&["user", "add", "root:root-word"])?;
    ctl(&["role", "add", "root"])?;
    ctl(&["user", "grant-role", "root", "root"])?;
    ctl(&["user", "add", "me:my-word"])?;
    ctl(&["role", "add", "mine"])?;
    ctl(&["role", "grant-permission", "mine", "readwrite", "--prefix=true", "mine/"])?;
    ctl(&["user", "grant-role", "me", "mine"])?;
    ctl(&["auth", "enable"])?;
    Ok(())
}

fn as_root(node: &Node, arguments: &[&str]) -> Result<(), Failure> {
    let mut command = node.etcdctl();
    command.arg("--user=root:root-word").args(arguments);
    run(command, b"").map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn users_and_passwords() -> Result<(), Failure> {
    for kind in ["etcd", "etcd34"] {
        // Tokens live for two seconds.
        let setup = Setup { more: vec!["--auth-token-ttl=2".into()], ..Setup::single(kind) };
        let setup = if kind == "etcd34" { Setup::single(kind) } else { setup };
        let node = nodes(&setup, 1)?.remove(0);
        node.start().await?;
        let config = || Config::new([node.address.to_string()]).prefix("mine/");
        refused(config().user("me", "my-word"), ErrorKind::InvalidArgument, "authentication switched off")
            .await?;
        with_users(&node)?;

        works(config().user("me", "my-word")).await?;
        let wrong =
            refused(config().user("me", "wrong-word"), ErrorKind::Unauthenticated, "user and password")
                .await?;
        assert!(!format!("{wrong} {wrong:?} {:?}", wrong.cause()).contains("wrong-word"));
        refused(config(), ErrorKind::Unauthenticated, "asks for a user").await?;

        let kv = config().prefix("yours/").user("me", "my-word").open().await?;
        assert_eq!(kv.get("a").await.unwrap_err().kind(), ErrorKind::PermissionDenied);
        assert_eq!(kv.put("a", "").await.unwrap_err().kind(), ErrorKind::PermissionDenied);
        let mut watch = kv.watch_tree("").await?;
        assert_eq!(watch.event().await.unwrap_err().kind(), ErrorKind::PermissionDenied);
        kv.close().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ended_tokens_are_renewed() -> Result<(), Failure> {
    let setup = Setup { more: vec!["--auth-token-ttl=1".into()], ..Setup::single("etcd") };
    let node = nodes(&setup, 1)?.remove(0);
    node.start().await?;
    with_users(&node)?;
    let kv = Config::new([node.address.to_string()]).prefix("mine/").user("me", "my-word").open().await?;
    // The lock is held for longer than a token lives, and is not lost on a machine that is busy.
    let guard = kv.new_lock("l").ttl(Duration::from_secs(6)).acquire().await?;
    for n in 0..4 {
        tokio::time::sleep(Duration::from_secs(2)).await; // longer than a token lives
        kv.put("a", n.to_string()).fenced(&guard).await?;
        let mut watch = kv.watch("a").await?;
        watch.event().await?;
    }
    assert!(guard.is_held());
    // All tokens end with the server.
    node.daemon.kill();
    node.start().await?;
    kv.put("a", "after").await?;
    assert_eq!(kv.get("a").await?.and_then(|e| e.text().map(str::to_owned)).as_deref(), Some("after"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_withdrawn_end_a_watch_and_are_no_deletions() -> Result<(), Failure> {
    let node = common::single("etcd").await?;
    with_users(&node)?;
    let kv = Config::new([node.address.to_string()]).prefix("mine/").user("me", "my-word").open().await?;
    kv.put("a", "1").await?;
    let mut watch = kv.watch_tree("").await?;
    for _ in ["Put", "Synced"] {
        watch.event().await?;
    }
    as_root(&node, &["user", "revoke-role", "me", "mine"])?;
    // The server looks at rights when a watch begins.
    node.daemon.kill();
    node.start().await?;
    assert_eq!(watch.event().await.unwrap_err().kind(), ErrorKind::PermissionDenied);
    Ok(())
}

#[test]
fn no_secret_is_shown() {
    let config = Config::new(["h"]).user("me", Secret::new("hunter2"));
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_for_a_lock_whose_repeat_is_refused_leaves_nobody_in_line() -> Result<(), Failure> {
    kv_testsuite::repeat::is_refused(common::fire::Fire::start("etcd").await?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_whose_release_is_refused_is_free_after_its_ttl() -> Result<(), Failure> {
    let server = common::fire::Fire::start("etcd").await?;
    let (kv, troubles) = (server.open("denied/").await?, server.troubles().ok_or("it knows rights")?);
    let lock = || kv.new_lock("l").ttl(Duration::from_secs(5));
    for drops in [true, false] {
        let guard = lock().acquire().await?;
        let mut holder = kv.lock_holder("l").watch().await?;
        assert!(matches!(soon("the holder", holder.event()).await??, WatchEvent::Put(_)));
        troubles.begin(Stroke::Rights, 0).await?;
        match drops {
            true => drop(guard),
            false => assert_eq!(guard.release().await.unwrap_err().kind(), ErrorKind::PermissionDenied),
        }
        soon("its end", async {
            while !matches!(holder.event().await?, WatchEvent::Delete { .. }) {}
            Ok::<_, Failure>(())
        })
        .await??;
        troubles.end(Stroke::Rights).await?;
        assert!(lock().acquire().await?.release().await?);
    }
    kv.close().await?;
    // The drop may wait for the server.
    Ok(tokio::task::spawn_blocking(move || drop(server)).await?)
}
