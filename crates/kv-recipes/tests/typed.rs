//! Directories whose values are of one type.

mod common;

use common::{S, pair};
use kv_core::{ErrorKind, Result};
use kv_recipes::{Typed, TypedEvent, TypedNext};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
struct Route {
    to: String,
    weight: Option<u32>,
}

fn to(to: &str) -> Route {
    Route { to: to.into(), weight: None }
}

#[tokio::test(start_paused = true)]
async fn calls_are_those_of_the_handle() -> Result<()> {
    let p = pair().await;
    let routes: Typed<Route> = Typed::new(&p.kv, "/routes/");
    let seen = routes.put("a/b", &to("1")).if_missing().ttl(9 * S).await?;
    assert_eq!(seen.ttl, Some(9 * S));
    assert_eq!(routes.put("a/b", &to("2")).if_missing().await.unwrap_err().kind(), ErrorKind::KeyExists);
    let entry = routes.get("a/b").await?.unwrap();
    assert_eq!((entry.name.as_str(), entry.version, entry.value?), ("a/b", seen.version, to("1")));
    assert_eq!(p.other.get("routes/a/b").await?.unwrap().text(), Some(r#"{"to":"1","weight":null}"#));
    assert!(routes.get("b").await?.is_none());
    let guard = p.kv.new_lock("l").acquire().await?;
    let both = p.kv.transact().then(routes.put("c", &to("3")).fenced(&guard)).then(routes.delete("a/b"));
    assert!(both.await?.is_committed());
    assert_eq!(routes.list().await?.len(), 1);
    assert!(routes.delete("c").await? && !routes.delete("c").await?);

    let view = routes.view().await?;
    let written = routes.put("d", &to("4")).await?;
    view.wait_for("d", written.version).await?;
    assert_eq!(*view.get("d")?.unwrap(), to("4"));
    let all: Typed<Route> = Typed::new(&p.kv, "");
    assert_eq!(all.view().await?.len(), 1, "the root is a directory too");
    assert_eq!(all.list().await?[0].name.as_str(), "routes/d");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn bad_names_and_values_are_refused_before_anything_is_sent() -> Result<()> {
    let p = pair().await;
    let routes: Typed<Route> = Typed::new(&p.kv, "routes");
    assert_eq!(routes.put("..", &to("1")).await.unwrap_err().kind(), ErrorKind::InvalidKey);
    assert_eq!(routes.delete("").await.unwrap_err().kind(), ErrorKind::InvalidKey);
    assert_eq!(routes.get("a\u{7}").await.unwrap_err().kind(), ErrorKind::InvalidKey);
    let nowhere: Typed<Route> = Typed::new(&p.kv, "a/../b");
    assert_eq!(nowhere.list().await.unwrap_err().kind(), ErrorKind::InvalidKey);
    assert_eq!(nowhere.put("a", &to("1")).await.unwrap_err().kind(), ErrorKind::InvalidKey);
    assert_eq!(nowhere.view().await.unwrap_err().kind(), ErrorKind::InvalidKey);
    // Keys of maps are text in JSON.
    let maps: Typed<HashMap<Vec<u8>, u8>> = Typed::new(&p.kv, "maps");
    let map = HashMap::from([(vec![1], 1)]);
    assert_eq!(maps.put("a", &map).await.unwrap_err().kind(), ErrorKind::InvalidArgument);
    p.only_left(&[]).await;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_bad_value_is_in_its_place_and_shows_nothing_of_itself() -> Result<()> {
    let p = pair().await;
    let routes: Typed<Route> = Typed::new(&p.kv, "routes");
    let mut watch = routes.watch().await?;
    assert!(matches!(watch.event().await?, TypedEvent::Synced));
    for bad in [r#"{"to":"secret","weight":"secret"}"#, "secret", r#"{"to":"secret"#, "", "\u{0}"] {
        p.other.put("routes/a", bad).await?;
        let entry = routes.get("a").await?.unwrap();
        let e = entry.value.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Corrupt);
        assert!(e.to_string().contains("\"routes/a\""), "{e}");
        assert!(!format!("{e} {e:?}").contains("secret"), "{e}");
        // Its version is known, so that it can be replaced.
        routes.put("a", &to("good")).if_version(entry.version).await?;
        assert_eq!(routes.list().await?[0].value.as_ref().unwrap(), &to("good"));
    }
    p.other.delete("routes/a").await?;
    let (mut good, mut unreadable) = (0, 0);
    loop {
        match watch.event().await? {
            TypedEvent::Put(entry) if entry.value.is_ok() => good += 1,
            TypedEvent::Put(_) => unreadable += 1,
            TypedEvent::Delete { name, .. } => {
                assert_eq!(name.as_str(), "a");
                break;
            }
            TypedEvent::Synced => {}
        }
    }
    assert_eq!((good, unreadable), (5, 5));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn updates_lose_nothing_and_leave_alone_what_they_cannot_read() -> Result<()> {
    let p = pair().await;
    let (here, there): (Typed<u32>, Typed<u32>) = (Typed::new(&p.kv, "n"), Typed::new(&p.other, "n"));
    let next = |found: Option<u32>| Ok(found.unwrap_or(0) + 1);
    for turn in 0..20_u32 {
        p.faults.lose_answers(1);
        let (one, two) = (here.update("a", next).exactly_once(), there.update("a", next));
        let (one, two) = tokio::join!(one.into_future(), two.into_future());
        one?;
        two?;
        p.faults.clear();
        assert_eq!(there.get("a").await?.unwrap().value?, 2 * (turn + 1));
    }
    here.update("a", |_| Ok(TypedNext::Keep)).await?;
    assert_eq!(there.get("a").await?.unwrap().value?, 40);
    p.other.put("n/a", "secret").await?;
    let e = here.update("a", next).await.unwrap_err();
    assert!(e.kind() == ErrorKind::Corrupt && e.to_string().contains("\"n/a\""), "{e}");
    assert!(!format!("{e} {e:?}").contains("secret"), "{e}");
    assert_eq!(p.other.get("n/a").await?.unwrap().text(), Some("secret"), "it is left alone");
    here.delete("a").await?;
    here.update("a", |found| Ok(if found.is_none() { TypedNext::Keep } else { TypedNext::Delete })).await?;
    assert!(there.get("a").await?.is_none());
    assert_eq!(here.update("..", next).await.unwrap_err().kind(), ErrorKind::InvalidKey);
    let maps: Typed<HashMap<String, u8>> = Typed::new(&p.kv, "maps");
    maps.update("a", |found| Ok(found.unwrap_or_default())).ttl(9 * S).await?;
    tokio::time::sleep(10 * S).await;
    assert!(maps.get("a").await?.is_none(), "the options are those of the handle");
    Ok(())
}
