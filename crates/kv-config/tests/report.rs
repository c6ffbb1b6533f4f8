//! Reports of processes, and what they come to.

mod common;

use common::{Limits, S, limits, pair, put_limits, until};
use kv_config::{Origin, Source, live, status};
use kv_core::{ErrorKind, Kv};
use kv_memory::Calls;

async fn shown(kv: &Kv) -> String {
    status(kv, "app/status").await.unwrap().to_string()
}

#[tokio::test(start_paused = true)]
async fn a_roll_out_can_be_seen() {
    let p = pair().await;
    assert_eq!(shown(&p.other).await, "0 processes");
    put_limits(&p.other, limits(1)).await;
    let open = |kv: &Kv, name: &str| live::<Limits>(kv, "app/limits").report(format!("app/status/{name}"));
    let one = open(&p.kv, "one").validate(Limits::check).await.unwrap();
    let _two = open(&p.other, "rack/two").await.unwrap();
    let first = one.generation();
    until("both reports", async || status(&p.other, "app/status").await.unwrap().running(&first) == 2).await;
    assert_eq!(shown(&p.other).await, format!("2 processes: 2 run {first}"));

    // One of the two rejects it.
    put_limits(&p.other, Limits { requests: 2, burst: 3 }).await;
    let next = Source::tree(&p.other, "app/limits").snapshot().await.unwrap().generation();
    let why = "refused by the validation: 3 is not twice 2";
    let (a, b) = if first < next { (&first, &next) } else { (&next, &first) };
    let expected = format!("2 processes: 1 runs {a}, 1 runs {b}; 1 rejects {next}: {why}");
    until("the rejection", async || shown(&p.other).await == expected).await;
    let seen = status(&p.other, "app/status").await.unwrap();
    assert_eq!((seen.running(&first), seen.running(&next), seen.generations().len()), (1, 1, 2));
    let rejecting: Vec<_> = seen.rejecting().collect();
    assert_eq!((rejecting.len(), rejecting[0].name.as_str()), (1, "one"));
    assert_eq!(rejecting[0].rejects.as_ref().unwrap().generation, next);
    assert_eq!(seen.reports[1].name.as_str(), "rack/two");

    put_limits(&p.other, limits(4)).await;
    until("both on the next", async || {
        let stored = Source::tree(&p.other, "app/limits").snapshot().await.unwrap().generation();
        status(&p.other, "app/status").await.unwrap().running(&stored) == 2
    })
    .await;
    drop(one);
    until("one is gone", async || shown(&p.other).await.starts_with("1 process: 1 runs ")).await;

    // What stands there and is no report harms nobody.
    p.other.put("app/status/junk", "hunter2").await.unwrap();
    let seen = status(&p.other, "app/status").await.unwrap();
    assert_eq!((seen.reports.len(), seen.unreadable.len()), (1, 1));
    assert_eq!(seen.unreadable[0].kind(), ErrorKind::Corrupt);
    assert!(seen.to_string().ends_with("; 1 key is no report"), "{seen}");
    assert!(!format!("{seen:?} {seen}").contains("hunter2"));
}

#[tokio::test(start_paused = true)]
async fn a_report_goes_with_its_process_and_mends_itself() {
    let p = pair().await;
    put_limits(&p.other, limits(1)).await;
    let open = live::<Limits>(&p.kv, "app/limits").report("app/status/a").report_ttl(10 * S);
    let mut settings = open.await.unwrap();
    until("the report", async || p.other.exists("app/status/a").await.unwrap()).await;
    p.faults.pause(); // cut off, beyond the TTL
    until("it is gone", async || !p.other.exists("app/status/a").await.unwrap()).await;
    put_limits(&p.other, limits(2)).await;
    p.faults.resume();
    settings.changed().await.unwrap();
    let now = settings.generation();
    until("it is back", async || status(&p.other, "app/status").await.unwrap().running(&now) == 1).await;
    until("no trouble", async || settings.troubles().is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn lost_answers_cost_nothing() {
    let p = pair().await;
    put_limits(&p.other, limits(1)).await;
    p.faults.lose_answers(3);
    let mut settings = live::<Limits>(&p.kv, "app/limits").report("app/status/a").await.unwrap();
    for n in 2..8 {
        let now = settings.generation();
        until("the report", async || status(&p.other, "app/status").await.unwrap().running(&now) == 1).await;
        match n % 3 {
            0 => p.faults.lose_answers(1),
            1 => p.faults.fail_next(ErrorKind::OutcomeUnknown),
            _ => p.faults.fail_next(ErrorKind::Unavailable),
        }
        put_limits(&p.other, limits(n)).await;
        settings.changed().await.unwrap();
    }
    until("no trouble", async || settings.troubles().is_empty() && p.faults.planned() == 0).await;
}

#[tokio::test(start_paused = true)]
async fn the_report_of_a_predecessor_is_replaced() {
    let p = pair().await;
    put_limits(&p.other, limits(1)).await;
    let old = r#"{"v":1,"runs":"of before","from":"file"}"#;
    p.other.put("app/status/a", old).ttl(5 * S).await.unwrap();
    assert_eq!(status(&p.other, "app/status").await.unwrap().reports[0].origin, Origin::File);
    let settings = live::<Limits>(&p.kv, "app/limits").report("app/status/a").await.unwrap();
    let now = settings.generation();
    until("the report", async || status(&p.other, "app/status").await.unwrap().running(&now) == 1).await;
    tokio::time::sleep(60 * S).await;
    assert_eq!(shown(&p.other).await, format!("1 process: 1 runs {now}"), "the old TTL is over");
}

#[tokio::test(start_paused = true)]
async fn a_report_that_is_refused_is_told_and_harms_nothing_else() {
    let p = pair().await;
    put_limits(&p.other, limits(1)).await;
    p.faults.fail(Calls::Writes, ErrorKind::PermissionDenied, 8);
    let mut settings = live::<Limits>(&p.kv, "app/limits").report("app/status/a").await.unwrap();
    until("the trouble", async || settings.troubles().report.is_some()).await;
    assert_eq!(settings.troubles().report.unwrap().kind(), ErrorKind::PermissionDenied);
    put_limits(&p.other, limits(2)).await;
    assert_eq!(*settings.changed().await.unwrap(), limits(2));
    until("the report", async || p.other.exists("app/status/a").await.unwrap()).await;
    until("no trouble", async || settings.troubles().is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn a_report_that_somebody_deletes_or_replaces_comes_again() {
    let p = pair().await;
    put_limits(&p.other, limits(1)).await;
    let open = live::<Limits>(&p.kv, "app/limits").report("app/status/a").report_ttl(10 * S);
    let settings = open.await.unwrap();
    let now = settings.generation();
    let stands = async || status(&p.other, "app/status").await.unwrap().running(&now) == 1;
    until("the report", stands).await;
    for _ in 0..3 {
        p.other.delete_tree("app/status").await.unwrap();
        until("it comes again", stands).await;
    }
    p.other.put("app/status/a", "junk").await.unwrap();
    until("it takes the place of junk", stands).await;
    // A report may be that of a process that goes on: it is left for a while.
    let old = r#"{"v":1,"runs":"of before","from":"file"}"#;
    p.other.put("app/status/a", old).await.unwrap();
    tokio::time::sleep(5 * S).await;
    assert!(!stands().await);
    until("it takes the place of a report that stays", stands).await;
    until("no trouble", async || settings.troubles().is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn of_two_processes_of_one_name_the_one_that_stays_is_seen() {
    let p = pair().await;
    put_limits(&p.other, limits(1)).await;
    let open = |kv: &Kv| live::<Limits>(kv, "app/limits").report("app/status/a").report_ttl(10 * S);
    let mut old = open(&p.kv).await.unwrap();
    until("the report of the old one", async || p.other.exists("app/status/a").await.unwrap()).await;
    let mut new = open(&p.other).await.unwrap();
    tokio::time::sleep(S).await;
    // A change comes, and the old one reports last.
    p.faults.pause();
    put_limits(&p.other, limits(2)).await;
    new.changed().await.unwrap();
    tokio::time::sleep(S).await;
    p.faults.resume();
    old.changed().await.unwrap();
    tokio::time::sleep(S).await;
    drop(old);
    let now = new.generation();
    let seen = async || status(&p.other, "app/status").await.unwrap().running(&now) == 1;
    tokio::time::sleep(10 * S).await;
    for _ in 0..20 {
        assert!(seen().await, "the report of the process that runs");
        tokio::time::sleep(S).await;
    }
}
