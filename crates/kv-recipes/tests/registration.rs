//! Keys that are there as long as their owner is.

mod common;

use common::{S, pair, polled, until};
use kv_core::{Error, ErrorKind, Kv, Result};
use kv_memory::{Calls, Memory};
use kv_recipes::{Registered, Registration, RegistrationState, Service};
use std::time::Duration;

const KEY: &str = "services/web/7";

fn registration(kv: &Kv, value: &str) -> Registration {
    Registration::new(kv, KEY).json(value).ttl(9 * S)
}

/// Reads what is registered, from the second process.
async fn read(kv: &Kv) -> Option<String> {
    let web = Service::<String>::open(kv, "services/web").await.unwrap();
    web.instances().first().map(|instance| instance.value.clone())
}

fn is_registered(registered: &Registered) -> bool {
    matches!(registered.state(), RegistrationState::Registered)
}

#[tokio::test(start_paused = true)]
async fn it_mends_itself_after_an_outage_with_the_newest_value() -> Result<()> {
    let p = pair().await;
    let me = registration(&p.kv, "one").register().await?;
    tokio::time::sleep(3600 * S).await;
    assert_eq!(read(&p.other).await.as_deref(), Some("one"), "it is kept alive");
    for round in 0..5 {
        p.faults.pause();
        tokio::time::sleep(30 * S).await;
        assert_eq!(read(&p.other).await, None, "it goes after its TTL");
        assert!(matches!(me.state(), RegistrationState::Mending { .. }), "{:?}", me.state());
        // The value is set in the outage, by a caller who waits and by one who gives up.
        assert!(tokio::time::timeout(S, me.set_json(&format!("given up {round}"))).await.is_err());
        let value = format!("value {round}");
        let set = async { tokio::join!(me.set_json(&value), async { p.faults.resume() }).0 };
        set.await?;
        assert_eq!(read(&p.other).await.as_ref(), Some(&value));
        assert!(is_registered(&me));
    }
    assert!(me.deregister().await?);
    p.only_left(&[]).await;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn what_was_deregistered_never_comes_back() -> Result<()> {
    for gives_up in [false, true] {
        let p = pair().await;
        let me = registration(&p.kv, "one").register().await?;
        p.faults.pause();
        tokio::time::sleep(30 * S).await; // it tries to mend itself
        if gives_up {
            drop(me);
        } else {
            drop(me.deregister().await);
        }
        p.faults.resume();
        for _ in 0..100 {
            assert_eq!(read(&p.other).await, None);
            tokio::time::sleep(S).await;
        }
        p.only_left(&[]).await;
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_key_that_somebody_deleted_comes_again() -> Result<()> {
    let p = pair().await;
    let me = registration(&p.kv, "one").register().await?;
    for _ in 0..3 {
        assert!(p.other.delete(KEY).await?);
        until("it comes again", async || read(&p.other).await.as_deref() == Some("one")).await;
    }
    p.faults.cut_watches();
    me.set_json("two").await?;
    assert_eq!(read(&p.other).await.as_deref(), Some("two"));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn looks_that_find_nothing_new_are_no_news() -> Result<()> {
    let p = pair().await;
    let me = registration(&p.kv, "one").register().await?;
    let mut changed = Box::pin(me.changed());
    for _ in 0..5 {
        p.faults.cut_watches();
        assert!(tokio::time::timeout(S, &mut changed).await.is_err());
    }
    me.set_json("two").await?;
    assert!(matches!(changed.await, RegistrationState::Registered));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn whoever_comes_later_takes_over_and_the_other_gives_up_for_good() -> Result<()> {
    let p = pair().await;
    let old = registration(&p.kv, "old").register().await?;
    let new = registration(&p.other, "new").register().await?;
    assert_eq!(old.over().await.kind(), ErrorKind::KeyModified);
    assert!(matches!(old.state(), RegistrationState::Superseded));
    assert_eq!(old.set_json("again").await.unwrap_err().kind(), ErrorKind::KeyModified);
    let version = p.other.get(KEY).await?.unwrap().version;
    tokio::time::sleep(600 * S).await;
    let now = p.other.get(KEY).await?.unwrap().version;
    assert_eq!(now, version, "they do not take it from each other again and again");
    assert!(!old.deregister().await?, "it was no longer registered");
    assert!(p.other.exists(KEY).await?, "and what is another's stays");
    assert!(is_registered(&new));
    new.deregister().await?;
    p.only_left(&[]).await;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_predecessor_that_comes_back_from_an_outage_gives_way() -> Result<()> {
    let p = pair().await;
    let old = registration(&p.kv, "old").register().await?;
    p.faults.pause(); // the old process is cut off, and a new one is started in its place
    let new = registration(&p.other, "new").register().await?;
    tokio::time::sleep(30 * S).await;
    // The new key is gone for a moment when the old process comes back, so that it puts its own.
    p.other.delete(KEY).await?;
    p.faults.resume();
    assert_eq!(old.over().await.kind(), ErrorKind::KeyModified);
    until("the new one stands", async || read(&p.other).await.as_deref() == Some("new")).await;
    tokio::time::sleep(60 * S).await;
    assert_eq!(read(&p.other).await.as_deref(), Some("new"));
    assert!(is_registered(&new));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_predecessor_gives_way_whatever_it_took_over_before() -> Result<()> {
    let p = pair().await;
    let first = registration(&p.kv, "first").register().await?;
    let old = registration(&p.kv, "old").register().await?; // it was restarted in time
    assert_eq!(first.over().await.kind(), ErrorKind::KeyModified);
    p.faults.pause();
    tokio::time::sleep(30 * S).await; // nothing is left of it when another is started in its place
    assert_eq!(read(&p.other).await, None);
    let new = registration(&p.other, "new").register().await?;
    p.faults.resume();
    assert_eq!(old.over().await.kind(), ErrorKind::KeyModified);
    tokio::time::sleep(60 * S).await;
    assert!(is_registered(&new) && read(&p.other).await.as_deref() == Some("new"));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn answers_that_are_lost_leave_one_key_with_the_newest_value() -> Result<()> {
    for (lost, done) in (1..6).flat_map(|lost| [(lost, true), (lost, false)]) {
        let p = pair().await;
        let plan = || match done {
            true => p.faults.lose_answers(lost),
            false => p.faults.fail(Calls::Writes, ErrorKind::OutcomeUnknown, lost),
        };
        plan();
        let me = registration(&p.kv, "one").register().await?;
        plan();
        me.set_json("two").await?;
        assert_eq!(read(&p.other).await.as_deref(), Some("two"), "{lost} {done}");
        p.faults.clear();
        tokio::time::sleep(60 * S).await;
        assert!(is_registered(&me) && read(&p.other).await.as_deref() == Some("two"));
        assert!(me.deregister().await?);
        p.only_left(&[]).await;
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn what_is_no_registration_is_left_alone() -> Result<()> {
    let p = pair().await;
    p.other.put(KEY, "data").await?;
    let refused = registration(&p.kv, "one").register().await.unwrap_err();
    assert_eq!((refused.kind(), refused.key()), (ErrorKind::Corrupt, Some(KEY)));
    assert_eq!(p.other.get(KEY).await?.unwrap().text(), Some("data"));
    p.only_left(&[KEY]).await;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn values_that_cannot_be_put_are_refused_and_the_old_one_stays() -> Result<()> {
    let p = pair().await;
    let most = p.kv.capabilities().max_value;
    let large = Registration::new(&p.kv, KEY).value(vec![0u8; most]).register().await.unwrap_err();
    assert_eq!(large.kind(), ErrorKind::TooLarge);
    let me = registration(&p.kv, "one").register().await?;
    assert_eq!(me.set_value(vec![0u8; most]).await.unwrap_err().kind(), ErrorKind::TooLarge);
    assert!(is_registered(&me));
    assert_eq!(read(&p.other).await.as_deref(), Some("one"));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_lasting_refusal_ends_it_and_is_told() -> Result<()> {
    let p = pair().await;
    let me = registration(&p.kv, "one").register().await?;
    p.faults.fail(Calls::Writes, ErrorKind::PermissionDenied, 1);
    assert_eq!(me.set_json("two").await.unwrap_err().kind(), ErrorKind::PermissionDenied);
    assert_eq!(me.over().await.kind(), ErrorKind::PermissionDenied);
    p.only_left(&[]).await;
    Ok(())
}

#[test]
fn the_key_of_a_killed_process_goes_within_its_ttl() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (memory, killed, stays) = (Memory::new(), runtime(), runtime());
    let me = Registration::new(&Kv::new(memory.clone()), KEY).ttl(Duration::from_secs(5));
    let me = killed.block_on(me.register()).unwrap();
    drop(killed);
    assert!(matches!(me.state(), RegistrationState::Over(_)), "nobody keeps it: {:?}", me.state());
    stays.block_on(async {
        let kv = Kv::new(memory.with_prefix(""));
        assert!(kv.exists(KEY).await.unwrap());
        until("it goes", async || !kv.exists(KEY).await.unwrap()).await;
        assert_eq!(me.over().await.kind(), ErrorKind::Closed);
        assert_eq!(me.set_value("late").await.unwrap_err().kind(), ErrorKind::Closed);
    });
}

#[tokio::test(start_paused = true)]
async fn closing_takes_the_key_away() -> Result<()> {
    let p = pair().await;
    let me = registration(&p.kv, "one").register().await?;
    p.kv.close().await?;
    assert!(!p.other.exists(KEY).await?);
    assert_eq!(me.over().await.kind(), ErrorKind::Closed);
    assert!(!me.deregister().await?);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_registration_that_is_dropped_at_any_poll_leaves_nothing() -> Result<()> {
    for polls in 1.. {
        assert!(polls < 1000);
        let p = pair().await;
        p.faults.lose_answers(2);
        let done = polled(registration(&p.kv, "one").register(), polls).await.transpose()?;
        let is_done = done.is_some();
        drop(done);
        p.only_left(&[]).await;
        if is_done {
            break;
        }
    }
    for polls in 1.. {
        assert!(polls < 1000);
        let p = pair().await;
        let me = registration(&p.kv, "one").register().await?;
        let done: Option<Result<bool, Error>> = polled(me.deregister(), polls).await;
        p.only_left(&[]).await;
        if done.is_some() {
            break;
        }
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_key_that_outlives_its_lease_here_is_taken_away() -> Result<()> {
    let p = pair().await;
    let me = registration(&p.kv, "one").register().await?;
    p.faults.pause();
    while is_registered(&me) {
        me.changed().await;
    }
    // By the own clock it is lost a tenth of its TTL before it goes.
    assert!(p.other.exists(KEY).await?);
    p.faults.resume();
    assert!(me.deregister().await?, "it was there");
    assert!(!p.other.exists(KEY).await?);
    p.only_left(&[]).await;
    Ok(())
}
