//! TLS, client certificates, users and passwords; and the errors for wrong ones.

mod common;

use common::{Node, Setup, nodes};
use kv_core::{Error, ErrorKind, Secret, Tls};
use kv_etcd::Config;
use kv_testsuite::{
    Certificates, Failure,
    opening::{self, DEADLINE, NOBODY},
    process::run,
    tls,
};
use std::time::Duration;

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

/// Checks that opening is refused with this kind, at once, and returns the error, which must
/// contain `names`.
async fn refused(config: Config, kind: ErrorKind, names: &str) -> Result<Error, Failure> {
    opening::refused(config.deadline(DEADLINE).open(), kind, names).await
}

async fn works(config: Config) -> Result<(), Failure> {
    assert!(!opening::works(config.open()).await?.version.is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_with_client_certificates() -> Result<(), Failure> {
    let ours = Certificates::new()?;
    let node = server(&ours, true).await?;
    let config = || Config::new([node.address.to_string()]).prefix("tls/").deadline(DEADLINE);
    let open = async |tls: Tls| config().tls(tls).open().await;
    let url =
        async |parameters: String| kv_etcd::open(&format!("etcd://{}/tls/?{parameters}", node.address)).await;
    tls::client_certificates(&ours, &open, &url).await?;
    tls::server_names(&ours, &open, &url).await
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
        Config::new([node.address.to_string()]).deadline(Duration::from_secs(5)).open().await.unwrap_err();
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
async fn a_wrong_address_says_what_was_tried() -> Result<(), Failure> {
    opening::unreachable(Config::new([NOBODY]).deadline(Duration::from_millis(500)).open()).await
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
    kv_testsuite::rights::ends_by_its_ttl(server, Duration::from_secs(5)).await
}
