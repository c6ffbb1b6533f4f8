//! The page of a store in which others hold locks, lead, and are registered.

use super::{Site, http::Page, serve};
use kv_core::{Kv, Result};
use kv_recipes::{Election, Registration};
use serde_json::{Value, json};
use std::{sync::mpsc, thread, time::Duration};
use tokio::{net::TcpListener, runtime::Builder, task::yield_now};

/// Serves a store in which `jobs/nightly` is held by one and waited for by another, and in which
/// there is a leader, and an instance of a service; tells the URL, and the token of the first.
async fn serve_busy(tell: mpsc::Sender<(String, u64)>) -> Result<()> {
    let kv: Kv = kv_memory::open("memory://").await?;
    let first = kv.new_lock("jobs/nightly").value("host-1").acquire().await?;
    let election = Election::new(&kv, "app/leader").candidate("host-7").value("10.0.0.7:80");
    let _term = election.campaign().await?;
    let _web = Registration::new(&kv, "services/web/1").json("10.0.0.1:80").register().await?;
    kv.put("services/web/other", r#"{"v":1,"id":"no record"}"#).await?;
    let waits = tokio::spawn({
        let lock = kv.new_lock("jobs/nightly").value("host-2");
        async move { lock.acquire().await }
    });
    while kv.locks("jobs").await?.iter().all(|lock| lock.waiters != Some(1)) {
        yield_now().await;
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let site = Site::new(kv.clone(), true, &listener).unwrap();
    tell.send((site.url(), first.token())).unwrap();
    serve(site, listener).await;
    drop((first, waits));
    Ok(())
}

fn locks(page: &Page) -> Vec<Value> {
    let mut answer: Value = serde_json::from_str(&page.get("locks").body).unwrap();
    assert_eq!((&answer["v"], &answer["more"]), (&json!(1), &json!(false)));
    answer["locks"].as_array_mut().map(std::mem::take).unwrap()
}

#[test]
fn a_page_shows_locks_with_their_waiters_who_leads_and_the_services_and_breaks_a_lock() {
    let (tell, told) = mpsc::channel();
    // It ends with the tests.
    thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(serve_busy(tell)).unwrap();
    });
    let (url, token) = told.recv_timeout(Duration::from_secs(20)).unwrap();
    let page = Page::at(&url);
    assert!(page.get("locks").head.contains("content-type: application/json"));
    assert!(page.events().next("latency").starts_with("{\"v\":1,\"micros\":"));
    let read = |event: String| serde_json::from_str::<Value>(&event).unwrap();
    let mut events = page.events();
    let (election, instance) = (read(events.next("election")), read(events.next("instance")));
    let shown = locks(&page);
    let leader = &shown[0];
    let expected = json!({
        "v": 1, "key": "app/leader/leader", "name": "app/leader", "term": leader["token"],
        "candidate": "host-7", "value": "10.0.0.7:80",
    });
    assert_eq!(election, expected);
    assert_eq!((&instance["key"], &instance["value"]), (&json!("services/web/1"), &json!("\"10.0.0.1:80\"")));
    assert!(events.next("synced").starts_with("{\"v\":1"), "the other key is no record");
    assert_eq!(leader["name"], "app/leader");
    assert_eq!((&leader["candidate"], &leader["leads"]), (&json!("host-7"), &json!(true)));
    assert_eq!(leader["says"], "10.0.0.7:80");
    let nightly = json!({"v": 1, "name": "jobs/nightly", "token": token, "waiters": 1, "value": "host-1"});
    assert_eq!((&shown[1], shown.len()), (&nightly, 2));

    let breaking = json!({"name": "jobs/nightly", "token": token}).to_string();
    let broken = page.post("break", &breaking);
    assert_eq!((broken.status, &*broken.body), (200, r#"{"v":1,"done":true}"#));
    let shown = locks(&page);
    assert_eq!((&shown[1]["value"], &shown[1]["waiters"]), (&json!("host-2"), &json!(0)));
    assert_eq!(page.post("break", &breaking).status, 409);
}
