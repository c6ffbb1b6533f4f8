//! Tests of the following.

use super::*;
use crate::{
    out::Buffer,
    transfer::{Folder, Role},
};
use kv_core::Directory;
use std::process::Command;
use tokio::sync::oneshot;

const PLAN: Plan = Plan {
    replaces: true,
    deletes: true,
    max_delete: Some(10),
    from_empty: false,
    dry_run: false,
    verbose: true,
};

/// Follows until the source has been changed as `changes` does it and the place has it.
async fn followed(to: Place, changes: impl AsyncFnOnce(&Kv)) -> (Exit, String) {
    let from = kv_memory::open("memory://").await.unwrap();
    from.put("a", "1").await.unwrap();
    let (buffer, (end, ended)) = (Buffer::default(), oneshot::channel::<()>());
    let mut out = Out::to_buffer(&buffer, false, false);
    let follows = async {
        let exit = follow(&from, &to, &PLAN, &mut out, || Ok(ended)).await.unwrap();
        out.flush().unwrap();
        exit
    };
    let changes = async {
        changes(&from).await;
        end.send(()).unwrap();
    };
    let (exit, ()) = tokio::join!(follows, changes);
    (exit, buffer.text())
}

#[tokio::test]
async fn every_change_is_carried_over_and_a_failure_that_passes_ridden_out() {
    let to = kv_memory::open("memory://").await.unwrap();
    to.put("extra", "x").await.unwrap();
    let mut seen = to.watch_tree("").await.unwrap();
    let mut until = async |key: &str, value: Option<&str>| loop {
        match seen.event().await.unwrap() {
            WatchEvent::Put(entry) if entry.key.as_str() == key && entry.text() == value => return,
            WatchEvent::Delete { key: gone, .. } if gone.as_str() == key && value.is_none() => return,
            _ => {}
        }
    };
    let (exit, told) = followed(Place::Store(to.clone()), async |from| {
        until("extra", None).await;
        from.put("b", "2").await.unwrap();
        until("b", Some("2")).await;
        // The answer is lost of a write that is done.
        kv_memory::Faults::of(&to).unwrap().lose_answers(1);
        from.put("a", "3").await.unwrap();
        until("a", Some("3")).await;
        from.delete("b").await.unwrap();
        until("b", None).await;
    })
    .await;
    assert_eq!(exit, Exit::DONE, "{told}");
    assert!(
        told.starts_with(
            "+ a\n- extra\ncreated 1, replaced 0, deleted 1; 0 were the same; 0 differ now\n+ b\n"
        ),
        "{told}"
    );
    assert!(told.contains("~ a\n") && told.ends_with("; 1 were the same; 0 differ now\n"), "{told}");
    assert_eq!(to.list("").await.unwrap().len(), 1);
}

/// Waits until a place has lost this key.
async fn gone(kv: Kv, key: &str) {
    let mut watch = kv.watch(key).await.unwrap();
    let gone = async {
        let (mut is_there, mut is_synced) = (false, false);
        while is_there || !is_synced {
            match watch.event().await.unwrap() {
                WatchEvent::Put(_) => is_there = true,
                WatchEvent::Delete { .. } => is_there = false,
                WatchEvent::Synced => is_synced = true,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), gone).await.expect("the key stays");
}

#[tokio::test]
async fn a_key_that_goes_behind_the_first_copy_goes_from_the_place() {
    let (from, to) =
        (kv_memory::open("memory://").await.unwrap(), kv_memory::open("memory://").await.unwrap());
    from.put("a", "1").await.unwrap();
    from.put("b", "2").await.unwrap();
    let mut out = Out::to_buffer(&Buffer::default(), false, false);
    let stop = || {
        from.store().find::<kv_memory::Memory>().unwrap().raw_delete("a");
        Ok(gone(to.clone(), "a"))
    };
    let exit = follow(&from, &Place::Store(to.clone()), &PLAN, &mut out, stop).await.unwrap();
    assert_eq!((exit, to.list("").await.unwrap().len()), (Exit::DONE, 1));
}

/// Waits until a place has this value.
async fn has(kv: &Kv, key: &str, value: &str) {
    let mut watch = kv.watch(key).await.unwrap();
    let has = async {
        loop {
            if let WatchEvent::Put(entry) = watch.event().await.unwrap()
                && entry.text() == Some(value)
            {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), has).await.expect("the value does not come");
}

#[tokio::test]
async fn a_source_that_loses_all_its_keys_deletes_nothing_unless_that_is_said() {
    let unsaid = Plan { max_delete: None, ..PLAN };
    // More keys than are carried over together.
    let last = format!("k/{:04}", 2 * AT_A_TIME);
    for (plan, is_refused) in [(unsaid, true), (Plan { from_empty: true, ..unsaid }, false), (PLAN, true)] {
        let [from, to] =
            [kv_memory::open("memory://").await.unwrap(), kv_memory::open("memory://").await.unwrap()];
        for n in 0..=2 * AT_A_TIME {
            from.put(format!("k/{n:04}"), "1").await.unwrap();
        }
        let mut out = Out::to_buffer(&Buffer::default(), false, false);
        let place = Place::Store(to.clone());
        let follows = follow(&from, &place, &plan, &mut out, || Ok(gone(to.clone(), &last)));
        let empties = async {
            has(&to, &last, "1").await;
            from.delete_tree("").await.unwrap();
        };
        let (ended, ()) = tokio::join!(tokio::time::timeout(Duration::from_secs(20), follows), empties);
        let ended = ended.expect("it goes on").map_err(|failure| failure.words().unwrap().1);
        let left = to.list("").await.unwrap().len();
        match ended {
            Ok(exit) => assert_eq!((is_refused, exit, left), (false, Exit::DONE, 0)),
            Err(why) => {
                assert!(is_refused, "{why}");
                assert_eq!(left, 2 * AT_A_TIME + 1, "{why}");
                assert!(why.contains("--max-delete") || why.contains("--from-empty"), "{why}");
            }
        }
    }
}

#[tokio::test]
async fn a_key_that_conflicted_is_tried_again_and_keeps_no_deletion_back() {
    let to = kv_memory::open("memory://").await.unwrap();
    let place = to.clone();
    let (exit, told) = followed(Place::Store(to.clone()), async |from| {
        has(&place, "a", "1").await;
        kv_memory::Faults::of(&place).unwrap().fail(kv_memory::Calls::Writes, ErrorKind::KeyModified, 2);
        let memory = from.store().find::<kv_memory::Memory>().unwrap();
        memory.raw_put("b", "2");
        memory.raw_put("c", "3");
        memory.raw_delete("a");
        gone(place.clone(), "a").await;
        has(&place, "b", "2").await;
        has(&place, "c", "3").await;
    })
    .await;
    assert_eq!(exit, Exit::DONE, "{told}");
    assert!(told.contains("- a\n") && told.ends_with("; 0 differ now\n"), "{told}");
}

#[tokio::test]
async fn a_key_that_conflicted_in_the_first_copy_is_tried_again() {
    let to = kv_memory::open("memory://").await.unwrap();
    kv_memory::Faults::of(&to).unwrap().fail(kv_memory::Calls::Writes, ErrorKind::KeyModified, 1);
    let place = to.clone();
    let (exit, told) = followed(Place::Store(to.clone()), async |_| has(&place, "a", "1").await).await;
    assert_eq!(exit, Exit::DONE, "{told}");
    let first = "+ a\ncreated 0, replaced 0, deleted 0; 0 were the same; 1 differ now\n+ a\n";
    assert!(told.starts_with(first) && told.ends_with("; 0 differ now\n"), "{told}");
}

#[tokio::test]
async fn every_change_of_a_store_is_a_commit_of_a_work_tree() {
    let tree = tempfile::tempdir().unwrap();
    let git = |arguments: &[&str]| {
        let output = Command::new("git").arg("-C").arg(tree.path()).args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    git(&["init", "--quiet"]);
    git(&["config", "user.name", "Ann"]);
    git(&["config", "user.email", "ann@example.org"]);
    let name = format!("git:{}", tree.path().display());
    let folder = Folder::named(&name, &Directory::root(), Role::To).unwrap().unwrap();
    let commits = async |count: usize| loop {
        let mut log = Command::new("git");
        let log = log.arg("-C").arg(tree.path()).args(["rev-list", "--count", "HEAD"]).output().unwrap();
        if String::from_utf8(log.stdout).unwrap().trim() == count.to_string() {
            return;
        }
        tokio::task::yield_now().await;
    };
    let (exit, told) = followed(Place::Folder(folder), async |from| {
        commits(1).await;
        from.put("b", "2").await.unwrap();
        commits(2).await;
        from.delete("a").await.unwrap();
        commits(3).await;
    })
    .await;
    assert_eq!(exit, Exit::DONE, "{told}");
    let log = git(&["log", "--reverse", "--format=%an: %B"]);
    let lines: Vec<_> = log.lines().filter(|line| !line.is_empty()).collect();
    assert_eq!(
        lines,
        [
            "Ann: kv: created 1, replaced 0, deleted 0",
            "+ a",
            "Ann: kv: created 1, replaced 0, deleted 0",
            "+ b",
            "Ann: kv: created 0, replaced 0, deleted 1",
            "- a",
        ]
    );
}
