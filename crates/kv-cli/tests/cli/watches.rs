//! `watch`, `wait`.

use crate::program::{Ended, Place, end, line};

#[test]
fn a_watch_begins_with_what_is_there() {
    let place = Place::redb();
    let version = place.ok(&["put", "app/a", "1\n2"]);
    place.ok(&["put", "app/b/c", "3"]);
    place.ok(&["put", "application", "4"]);
    let object = format!(
        "{{\"v\":1,\"event\":\"put\",\"key\":\"app/a\",\"value\":\"1\\n2\",\"version\":\"{}\"}}\n",
        version.trim_end()
    );
    place.table(&[
        (&["watch", "-r", "app", "-n", "2"], 0, "put\tapp/a\t1\\n2\nput\tapp/b/c\t3\n"),
        (&["watch", "app/a", "-n", "1"], 0, "put\tapp/a\t1\\n2\n"),
        (&["watch", "--json", "app/a", "-n", "1"], 0, &object),
        (&["watch", "app/../a"], 2, ""),
    ]);
}

#[test]
fn a_watch_tells_of_a_key_that_goes() {
    let place = Place::redb();
    place.ok(&["put", "a", "1", "--ttl", "10s"]);
    let mut watch = place.command(&["watch", "-r", "/", "-n", "2"]).spawn().unwrap();
    assert_eq!(line(&mut watch), "put\ta\t1");
    assert_eq!(line(&mut watch), "synced");
    assert_eq!(line(&mut watch), "delete\ta");
    assert_eq!(end(watch).code, 0);
}

#[test]
fn updates_leave_out_what_is_there() {
    let place = Place::redb();
    place.ok(&["put", "a", "1", "--ttl", "10s"]);
    let watch = place.command(&["watch", "--updates", "--json", "a", "-n", "1"]).spawn().unwrap();
    let ended = end(watch);
    assert!(ended.out.starts_with(r#"{"v":1,"event":"delete","key":"a","version":""#), "{ended:?}");
    assert_eq!((ended.code, ended.out.lines().count()), (0, 1), "{ended:?}");
}

#[test]
fn a_watch_ends_with_its_reader_and_not_with_the_next_event() {
    let place = Place::memory();
    let mut watch = place.command(&["watch", "a"]).spawn().unwrap();
    assert_eq!(line(&mut watch), "synced");
    drop(watch.stdout.take());
    let ended = Ended::of(watch.wait_with_output().unwrap());
    assert_eq!((ended.code, &*ended.err), (141, ""));
}

#[test]
fn a_wait_ends_when_the_key_is_so_or_time_is_over() {
    let place = Place::redb();
    let version = place.ok(&["put", "a", "1"]);
    let version = version.trim_end();
    let object = format!("{{\"v\":1,\"key\":\"a\",\"value\":\"1\",\"version\":\"{version}\"}}\n");
    place.table(&[
        (&["wait", "a"], 0, ""),
        (&["wait", "a", "--value", "1", "--json"], 0, &object),
        (&["wait", "b", "--gone"], 0, ""),
        (&["wait", "b", "--within", "50ms"], 1, ""),
        (&["wait", "a", "--gone", "--within", "50ms"], 1, ""),
        (&["wait", "a", "--value", "2", "--within", "50ms"], 1, ""),
        (&["wait", "a", "--not-version", version, "--within", "50ms"], 1, ""),
        (&["wait", "a", "--not-version", "1000000"], 0, ""),
        (&["wait", "a", "--gone", "--value", "1"], 2, ""),
    ]);
}
