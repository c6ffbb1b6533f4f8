//! Stores whose server speaks TLS and asks clients for certificates.

use crate::{
    Certificates, Failure, Rotation,
    failover::soon,
    opening::{refused, works},
};
use kv_core::{Entry, ErrorKind, Kv, Result, Tls, Watch, WatchEvent};
use std::time::Duration;

/// Longer than a rotation takes, so that nothing ends by itself.
const TTL: Duration = Duration::from_secs(60);

/// Checks that a store opens with the certificates of the server's CA, given as settings or as
/// parameters of a URL, and is refused with those of another CA, or without one of its own. `open`
/// has the deadline [`DEADLINE`](crate::opening::DEADLINE); `open_url` takes the parameters.
///
/// # Errors
/// A store did not open or work, or one was opened that had to be refused.
///
/// # Panics
/// A refusal has another reason, or came late.
pub async fn client_certificates(
    ours: &Certificates,
    open: &impl AsyncFn(Tls) -> Result<Kv>,
    open_url: &impl AsyncFn(String) -> Result<Kv>,
) -> Result<(), Failure> {
    let theirs = Certificates::new()?;
    works(open(ours.of_client())).await?;
    let kv = open_url(ours.parameters()).await?;
    kv.get("a").await?;
    kv.close().await?;

    let unknown = ErrorKind::Unauthenticated;
    let trusting = |authority: &Certificates| Tls::new().ca(authority.file("ca.pem"));
    refused(open(of(ours, trusting(&theirs))), unknown, "`ca`").await?;
    refused(open(trusting(ours)), unknown, "client certificate").await?;
    refused(open(of(&theirs, trusting(ours))), unknown, "client certificate").await?;
    Ok(())
}

/// Checks that a store opens with the name that the server's certificate has, and is refused with
/// another one, or where the CA is left to the machine, which does not know it; in the same way as
/// [`client_certificates`].
///
/// # Errors
/// Those of [`client_certificates`].
///
/// # Panics
/// Where [`client_certificates`] does.
pub async fn server_names(
    ours: &Certificates,
    open: &impl AsyncFn(Tls) -> Result<Kv>,
    open_url: &impl AsyncFn(String) -> Result<Kv>,
) -> Result<(), Failure> {
    works(open(ours.of_client().server_name("localhost"))).await?;
    let kv = open_url(format!("{}&server_name=localhost", ours.parameters())).await?;
    kv.get("a").await?;
    kv.close().await?;

    let unknown = ErrorKind::Unauthenticated;
    refused(open(of(ours, Tls::new())), unknown, "`ca`").await?;
    refused(open(ours.of_client().server_name("elsewhere")), unknown, "`server_name`").await?;
    Ok(())
}

/// Adds the certificate of a client to the settings.
fn of(client: &Certificates, tls: Tls) -> Tls {
    tls.client_certificate(client.file("client.pem"), client.file("client.key"))
}

/// Replaces all certificates again and again, and has the server started anew each time, `down`
/// and `up`; the clients' files come at the same time, or later. Checks that the open store goes on
/// with what it has: watches, locks, and waits for locks; and that its calls tell why the server is
/// not there for it meanwhile.
///
/// # Errors
/// Something did not go on, or not in time.
///
/// # Panics
/// A promise was broken.
pub async fn rotation(
    kv: &Kv,
    certificates: &Rotation,
    down: impl Fn(),
    up: impl AsyncFn() -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut watch = kv.watch_tree("d").await?;
    assert_eq!(watch.event().await?, WatchEvent::Synced);
    let mut holder = kv.lock_holder("l").watch().await?;
    assert_eq!(holder.event().await?, WatchEvent::Synced);
    let acquire = |name| kv.new_lock(name).ttl(TTL).acquire();
    let (kept, mut guard) = (acquire("kept").await?, acquire("l").await?);
    for (round, is_late) in [("at once", false), ("late", true), ("late again", true)] {
        let waits = tokio::spawn(acquire("l").into_future());
        down();
        certificates.renew_server()?;
        if is_late {
            up().await?;
            let e = kv.get("a").deadline(Duration::from_secs(1)).await.err();
            let e = e.ok_or_else(|| format!("{round}: answered by a server that is not trusted"))?;
            assert_eq!(e.kind(), ErrorKind::Unavailable, "{round}: {e}");
            let names = ["not trusted", "`ca`"].iter().all(|names| e.to_string().contains(names));
            assert!(names && e.is_transient(), "{round}: {e}");
            certificates.renew_client()?;
        } else {
            certificates.renew_client()?;
            up().await?;
        }
        kv.put("d/new", round).fenced(&kept).await.map_err(|e| format!("{round}: {e}"))?;
        soon("the change", told(&mut watch, |entry| entry.value == round)).await??;
        assert!(guard.release().await?, "{round}");
        guard = soon("the lock", waits).await???;
        let is_next = |entry: &Entry| entry.version.parts().0 == guard.token();
        soon("the holder", told(&mut holder, is_next)).await??;
    }
    assert!(guard.is_held() && guard.release().await?);
    assert!(kept.is_held() && kept.release().await?);
    Ok(())
}

/// Reads until an entry comes that is this one.
async fn told(watch: &mut Watch, is: impl Fn(&Entry) -> bool) -> Result<()> {
    loop {
        if let WatchEvent::Put(entry) = watch.event().await?
            && is(&entry)
        {
            return Ok(());
        }
    }
}
