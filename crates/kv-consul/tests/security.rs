//! TLS, client certificates and tokens; and the errors for wrong ones, and for rights that are
//! withdrawn.

mod common;

use common::{
    Node,
    guarded::{Guarded, MINE, ROOT, end_of},
    with,
};
use kv_consul::Config;
use kv_core::{Error, ErrorKind, Kv, Secret, Tls, WatchEvent};
use kv_testsuite::{
    Certificates, Failure, Rotation,
    failover::soon,
    opening::{self, DEADLINE, NOBODY},
    tls,
};
use serde_json::{Value, json};
use std::time::Duration;

/// Starts a server that speaks TLS on a port of its own.
async fn server(certificates: &Certificates, only_known_clients: bool) -> Result<Node, Failure> {
    let [cert, key, ca] = ["server.pem", "server.key", "ca.pem"].map(|name| certificates.file(name));
    with(&json!({
        "cert_file": cert, "key_file": key, "ca_file": ca, "verify_incoming_https": only_known_clients,
    }))
    .await
}

/// Checks that opening is refused with this kind, at once, and returns the error, which must
/// contain `names`.
async fn refused(config: Config, kind: ErrorKind, names: &str) -> Result<Error, Failure> {
    opening::refused(config.deadline(DEADLINE).open(), kind, names).await
}

async fn works(config: Config) -> Result<(), Failure> {
    opening::works(config.open()).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_with_client_certificates() -> Result<(), Failure> {
    let ours = Certificates::new()?;
    let node = server(&ours, true).await?;
    let config = || Config::new([node.tls_address().to_string()]).prefix("tls/").deadline(DEADLINE);
    let open = async |tls: Tls| config().tls(tls).open().await;
    let url = async |parameters: String| {
        kv_consul::open(&format!("consul://{}/tls/?{parameters}", node.tls_address())).await
    };
    tls::client_certificates(&ours, &open, &url).await?;
    tls::server_names(&ours, &open, &url).await
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_text_and_tls_are_not_mixed() -> Result<(), Failure> {
    let ours = Certificates::new()?;
    let node = server(&ours, false).await?;
    works(
        Config::new([node.tls_address().to_string()]).prefix("tls/").tls(Tls::new().ca(ours.file("ca.pem"))),
    )
    .await?;
    let plain = Config::new([node.address.to_string()]).tls(Tls::new().ca(ours.file("ca.pem")));
    let e = refused(plain, ErrorKind::InvalidArgument, "does not speak TLS").await?;
    assert!(e.to_string().contains(&node.address.to_string()), "{e}");
    let without = Config::new([node.tls_address().to_string()]);
    refused(without, ErrorKind::InvalidArgument, "speaks TLS").await?;
    Ok(())
}

#[tokio::test]
async fn half_given_settings_are_refused_before_any_connection() -> Result<(), Failure> {
    for (url, names) in [
        ("consul://127.0.0.1:1/?cert=c.pem", "`cert` without `key`"),
        ("consul://127.0.0.1:1/?key=k.pem", "`key` without `cert`"),
        ("consul://127.0.0.1:1/?tls=false&server_name=n", "`tls` is off"),
        ("consul://127.0.0.1:1/?server_name=10.0.0.1", "`server_name`"),
        ("consul://127.0.0.1:1/?ca=/no/such/file", "/no/such/file"),
        ("consul://127.0.0.1:1/?token=a%0Ab", "`token`"),
        ("consul://:hunter2@127.0.0.1:1/", "`token`"),
        ("consul://127.0.0.1:1/?tolken=x", "unknown parameter \"tolken\""),
        ("consul://127.0.0.1:1/a//b", "\"a//b/\""),
        ("consul://127.0.0.1:x/", "\"127.0.0.1:x\""),
        ("consul:///prefix", "no host"),
        ("etcd://127.0.0.1:1/", "\"etcd\" is not the scheme"),
    ] {
        let e = kv_consul::open(url).await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::InvalidArgument, "{e}");
        assert!(e.to_string().contains(names), "{e} names {names:?}");
        assert!(!format!("{e} {e:?}").contains("hunter2"), "{e}");
    }
    let rubbish = tempfile::NamedTempFile::new()?;
    std::fs::write(rubbish.path(), "no PEM")?;
    let nobody = || Config::new(["127.0.0.1:1"]);
    refused(nobody().tls(Tls::new().ca(rubbish.path())), ErrorKind::InvalidArgument, "`ca`").await?;
    let config = nobody().tls(Tls::new().client_certificate(rubbish.path(), rubbish.path()));
    refused(config, ErrorKind::InvalidArgument, "`cert`").await?;
    Ok(())
}

#[tokio::test]
async fn a_wrong_address_says_what_was_tried() -> Result<(), Failure> {
    opening::unreachable(Config::new([NOBODY]).deadline(Duration::from_millis(500)).open()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_datacenter_and_a_namespace_that_are_not_there() -> Result<(), Failure> {
    let node = common::single().await?;
    let config = || Config::new([node.address.to_string()]);
    works(config().datacenter("dc1")).await?;
    refused(config().datacenter("elsewhere"), ErrorKind::InvalidArgument, "datacenter").await?;
    refused(config().namespace("team"), ErrorKind::InvalidArgument, "Enterprise").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens() -> Result<(), Failure> {
    let guarded = Guarded::start(&json!({})).await?;
    let mine = guarded.token("mine", MINE).await?;
    works(guarded.config(&mine)).await?;
    works(guarded.config(ROOT)).await?;

    let wrong = "99999999-0000-0000-0000-999999999999";
    let e = refused(guarded.config(wrong), ErrorKind::Unauthenticated, "ACL not found").await?;
    assert!(!format!("{e} {e:?} {:?}", e.cause()).contains(wrong));

    for prefix in ["mine/", "yours/"] {
        let root = guarded.config(ROOT).prefix(prefix).open().await?;
        for key in ["a", "b", "ключ"] {
            root.put(key, "").await?;
        }
    }
    // A store that may not read the prefix is told so at once, and which setting is to blame.
    let nobody = || Config::new([guarded.0.address.to_string()]).prefix("mine/");
    refused(nobody(), ErrorKind::PermissionDenied, "`token`").await?;
    refused(guarded.config(&mine).prefix("yours/"), ErrorKind::PermissionDenied, "\"yours/\"").await?;

    // Those who may read the server's limits know them; others take the defaults.
    let less = guarded.token("less", MINE).await?;
    let kv = guarded.config(&less).open().await?;
    let least = |kv: &Kv| kv.capabilities().lock.as_ref().map(|lock| lock.ttl.least);
    let root = guarded.config(ROOT).open().await?;
    assert_eq!((least(&root), least(&kv)), (Some(Duration::from_millis(500)), Some(Duration::from_secs(10))));
    guarded.change("less", r#"session_prefix "" { policy = "write" }"#).await?;
    soon("the rights to be gone", async { while kv.get("a").await.is_ok() {} }).await?;
    for (call, answer) in [
        ("get", kv.get("a").await.map(drop)),
        ("get of a name in the body", kv.get("ключ").await.map(drop)),
        ("get_many", kv.get_many(["a", "b"]).await.map(drop)),
        ("exists", kv.exists("a").await.map(drop)),
        ("put", kv.put("a", "").await.map(drop)),
        ("delete", kv.delete("a").await.map(drop)),
        ("delete_tree", kv.delete_tree("d").await.map(drop)),
        ("watch", kv.watch("a").await?.event().await.map(drop)),
        ("acquire", kv.new_lock("l").acquire().await.map(drop)),
    ] {
        let error = answer.err().ok_or_else(|| format!("{call} without rights"))?;
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{call}: {error}");
        assert!(!error.to_string().contains(&less), "{error}");
    }
    kv.close().await?;
    Ok(())
}

/// A token is rotated: the file of the new one is there before the old one is gone, or a moment
/// later.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_in_a_file_is_read_again() -> Result<(), Failure> {
    let guarded = Guarded::start(&json!({})).await?;
    let (first, second) = (guarded.token("first", MINE).await?, guarded.token("second", MINE).await?);
    let (folder, kept) = (tempfile::tempdir()?, guarded.token("kept", MINE).await?);
    let file = folder.path().join("token");
    std::fs::write(&file, format!("{first}\n"))?;
    let both = guarded.config(&kept).token_file(&file);
    refused(both, ErrorKind::InvalidArgument, "`token_file`").await?;
    let none = Config::new([guarded.0.address.to_string()]).token_file(folder.path().join("none"));
    refused(none, ErrorKind::InvalidArgument, "none cannot be read").await?;

    let url = format!("consul://{}/mine/?token_file={}", guarded.0.address, file.display());
    let kv = kv_consul::open(&url).await?;
    let mut watch = kv.watch_tree("d").await?;
    while watch.event().await? != WatchEvent::Synced {}
    let guard = kv.new_lock("l").acquire().await?;
    let waits = tokio::spawn(kv.new_lock("l").acquire().into_future());
    soon("the other to be in line", async {
        let line = "GET /v1/kv/mine/.kv/lock/1/l/?keys";
        while guarded.ask(line, &Value::Null).await?.as_array().is_none_or(|line| line.len() < 2) {}
        Ok::<_, Failure>(())
    })
    .await??;

    // A write is refused in other words, and the file is read again for it too.
    guarded
        .change("first", r#"key_prefix "mine/" { policy = "read" } session_prefix "" { policy = "write" }"#)
        .await?;
    soon("the right to write to be gone", async { while kv.put("d/w", "").await.is_ok() {} }).await?;
    std::fs::write(&file, &kept)?;
    kv.put("d/w", "").await?;
    std::fs::write(&file, &first)?;
    guarded.change("first", MINE).await?;
    guarded.delete(&kept).await?;
    soon("the file to be read again", async { while kv.get("a").await.is_err() {} }).await?;
    let kept = guarded.token("kept-again", MINE).await?;
    let other = guarded.config(&kept).open().await?;

    guarded.delete(&first).await?;
    soon("the old token to be unknown", async {
        while guarded.knows(&first).await? {}
        Ok::<_, Failure>(())
    })
    .await??;
    // For a while the server does not know us; what waits does not give up at once.
    assert_eq!(kv.get("a").await.map(drop).unwrap_err().kind(), ErrorKind::Unauthenticated);
    other.put("d/between", "").await?;
    std::fs::write(&file, &second)?;
    kv.put("d/new", "").await?;
    soon("the watch to go on", async {
        loop {
            if let WatchEvent::Put(entry) = watch.event().await?
                && entry.key.as_str() == "d/new"
            {
                return Ok::<_, Failure>(());
            }
        }
    })
    .await??;
    kv.put("d/fenced", "").fenced(&guard).await?;
    assert!(guard.release().await?);
    assert!(soon("the lock", waits).await???.is_held());
    Ok(())
}

/// A token that is gone, with nothing in its place, ends what waits.
#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_token_ends_a_watch() -> Result<(), Failure> {
    let guarded = Guarded::start(&json!({})).await?;
    let token = guarded.token("gone", MINE).await?;
    let kv = guarded.config(&token).open().await?;
    let mut watch = kv.watch_tree("d").await?;
    while watch.event().await? != WatchEvent::Synced {}
    guarded.delete(&token).await?;
    let end = end_of(&mut watch).await?;
    assert_eq!(end.kind(), ErrorKind::Unauthenticated, "{end}");
    assert!(end.to_string().contains("`token`"), "{end}");
    Ok(())
}

/// All certificates are those of a new authority, and the server is started anew.
#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_read_again() -> Result<(), Failure> {
    let certificates = Rotation::new()?;
    let node = server(&certificates.server, true).await?;
    let config = Config::new([node.tls_address().to_string()]).prefix("tls/");
    let kv = config.tls(certificates.client.of_client()).open().await?;
    tls::rotation(&kv, &certificates, || node.daemon.stop(), async || node.start().await).await
}

/// The server leaves out of listings what a token may not read any more, with nothing that tells.
#[tokio::test(flavor = "multi_thread")]
async fn rights_withdrawn_end_a_watch_and_are_no_deletions() -> Result<(), Failure> {
    let guarded = Guarded::start(&json!({})).await?;
    let token = guarded.token("mine", MINE).await?;
    let (kv, root) = (guarded.config(&token).open().await?, guarded.config(ROOT).open().await?);
    for key in ["key", "open/a", "secret/a", "secret/b"] {
        kv.put(key, "1").await?;
    }
    let mut all = kv.watch_tree("").await?;
    let mut secret = kv.watch_tree("secret").await?;
    let mut one = kv.watch("secret/a").await?;
    let mut open = kv.watch_tree("open").await?;
    for watch in [&mut all, &mut secret, &mut one, &mut open] {
        while watch.event().await? != WatchEvent::Synced {}
    }
    let _guard = root.new_lock("l").acquire().await?;
    assert!(kv.lock_holder("l").await?.is_some());
    let less = format!(
        r#"{MINE} key_prefix "mine/secret/" {{ policy = "deny" }} key_prefix "mine/.kv/lock/" {{ policy = "deny" }}"#
    );
    guarded.change("mine", &less).await?;
    let withdrawn = async { while kv.get("secret/a").await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(20), withdrawn).await?;
    // The server looks at the rights of a watch when something happens, or when it was held long
    // enough.
    root.put("secret/b", "2").await?;
    for (name, watch) in [("tree", &mut secret), ("key", &mut one), ("root", &mut all)] {
        let end = loop {
            match watch.event().await {
                Ok(event) => assert!(!matches!(event, WatchEvent::Delete { .. }), "{name}: {event:?}"),
                Err(e) => break e,
            }
        };
        assert_eq!(end.kind(), ErrorKind::PermissionDenied, "{name}: {end}");
    }
    let holder = kv.lock_holder("l").await;
    assert!(holder.as_ref().is_err_and(|e| e.kind() == ErrorKind::PermissionDenied), "{holder:?}");
    // What is still readable goes on.
    let version = kv.put("open/a", "2").await?.version;
    loop {
        match open.event().await? {
            WatchEvent::Put(entry) if entry.version == version => break,
            event => assert!(!matches!(event, WatchEvent::Delete { .. }), "{event:?}"),
        }
    }
    // And so does a watch that begins now, beside many others.
    let mut watch = kv.watch("open/a").await?;
    assert!(matches!(watch.event().await?, WatchEvent::Put(_)));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_shown() -> Result<(), Failure> {
    let config = Config::new(["h"]).token(Secret::new("hunter2"));
    assert!(!format!("{config:?}").contains("hunter2"));
    let node = common::single().await?;
    let store = Config::new([node.address.to_string()]).token("hunter2").open().await?;
    assert!(!format!("{store:?}").contains("hunter2"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_for_a_lock_whose_repeat_is_refused_leaves_nobody_in_line() -> Result<(), Failure> {
    kv_testsuite::repeat::is_refused(common::fire::suite().await?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_whose_release_is_refused_is_free_after_its_ttl() -> Result<(), Failure> {
    let server = common::fire::suite().await?;
    kv_testsuite::rights::ends_by_its_ttl(server, Duration::from_secs(10)).await
}
