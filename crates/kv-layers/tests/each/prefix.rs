//! `Prefix` makes a store of a directory.

use kv_core::{ErrorKind, Key, Result};
use kv_layers::Prefix;

#[tokio::test]
async fn fences_hold_with_and_without_the_layer() -> Result<()> {
    let all = kv_memory::open("memory://").await?;
    let app = all.clone().layer(Prefix::new("app")?);
    let guard = app.new_lock("l").acquire().await?;
    assert_eq!(guard.name().as_str(), "l");
    app.put("by-app", "").fenced(&guard).await?;
    all.put("by-all", "").fenced(&guard).await?;
    let whole = all.new_lock("app/l").try_acquire().await?;
    assert!(whole.is_none(), "it is one lock");
    let fence = guard.fence().clone();
    guard.release().await?;
    let late = app.put("late", "").fenced(&fence).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::LockLost);
    let names: Vec<_> = all.list("").await?.into_iter().map(|entry| entry.key.to_string()).collect();
    assert_eq!(names, ["app/by-app", "by-all"]);
    Ok(())
}

#[tokio::test]
async fn a_prefix_that_leaves_no_room_for_names_is_refused() -> Result<()> {
    let refused = Prefix::new("p".repeat(488)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidKey);
    assert!(refused.to_string().contains("487"), "{refused}");
    assert_eq!(Prefix::new("a/../b").unwrap_err().kind(), ErrorKind::InvalidKey);
    let kv = kv_memory::open("memory://").await?.layer(Prefix::new("p".repeat(487))?);
    let longest = "n".repeat(512);
    kv.put(&longest, "1").await?;
    assert_eq!(kv.list("").await?[0].key, Key::parse(&longest)?);
    Ok(())
}

#[tokio::test]
async fn the_root_changes_nothing_and_prefixes_add_up() -> Result<()> {
    let all = kv_memory::open("memory://").await?;
    all.clone().layer(Prefix::new("")?).put("a", "1").await?;
    let inner = all.clone().layer(Prefix::new("outer")?).layer(Prefix::new("inner")?);
    inner.put("b", "2").await?;
    assert!(all.exists("a").await? && all.exists("outer/inner/b").await?);
    assert!(format!("{inner:?}").contains(r#"Prefix("inner/") > Prefix("outer/") > Memory"#), "{inner:?}");
    Ok(())
}
