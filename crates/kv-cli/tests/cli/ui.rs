//! `ui`: requests as a browser sends them, and as others do.

use crate::{
    http::Page,
    program::{Place, end, line},
};
use rustix::process::{Pid, Signal, kill_process};
use std::process::Child;

/// The status of an answer, and the path and the headers of its request.
type Row<'a> = (u16, &'a str, &'a [(&'a str, &'a str)]);

/// Starts the page of a place.
fn open(place: &Place, more: &[&str]) -> (Child, Page) {
    let mut ui = place.command(&[&["ui"], more].concat()).spawn().unwrap();
    let page = Page::at(&line(&mut ui));
    (ui, page)
}

/// Ends it as a person does, by ^C.
fn interrupt(ui: Child) {
    kill_process(Pid::from_child(&ui), Signal::INT).unwrap();
    let ended = end(ui);
    assert_eq!((ended.code, &*ended.out, &*ended.err), (130, "", ""));
}

#[test]
fn a_page_is_for_who_knows_its_url_and_for_no_other_page() {
    let place = Place::redb();
    let (ui, page) = open(&place, &[]);
    let shown = page.get("");
    assert_eq!(shown.status, 200, "{shown:?}");
    assert!(shown.head.contains("content-security-policy: default-src 'none';"), "{shown:?}");
    assert!(shown.head.contains("cache-control: no-store"), "{shown:?}");
    for file in ["", "page.css", "page.js"] {
        let shown = page.get(file);
        assert_eq!(shown.status, 200, "{file}");
        assert!(!shown.body.contains("://"), "{file} names something elsewhere");
    }
    assert!(page.get("").body.contains("src=\"page.js\""));

    let host = page.host.as_str();
    let port = host.rsplit(':').next().unwrap();
    let (local, path) = (format!("localhost:{port}"), page.path.as_str());
    let (own, elsewhere) = (format!("http://{host}"), format!("http://localhost:{port}"));
    let token = path.trim_matches('/');
    assert!(token.len() == 32 && token.bytes().all(|byte| byte.is_ascii_hexdigit()), "{token}");
    let wrong = format!("/{}0/store", &token[..31]);
    let wrong = if wrong.contains(token) { format!("/{}1/store", &token[..31]) } else { wrong };
    let store = format!("{path}store");
    let rows: &[Row<'_>] = &[
        (200, &store, &[("host", host)]),
        (200, &store, &[("host", &local)]),
        (200, &store, &[("host", host), ("origin", &own), ("sec-fetch-site", "same-origin")]),
        (200, path, &[("host", host), ("sec-fetch-site", "none")]),
        (403, "/", &[("host", host)]),
        (403, "/store", &[("host", host)]),
        (403, &wrong, &[("host", host)]),
        (403, &format!("/{}/store", &token[..31]), &[("host", host)]),
        (403, &store, &[("host", "example.org")]),
        (403, &store, &[("host", "127.0.0.1:1")]),
        (403, &store, &[("host", host), ("origin", "http://example.org")]),
        (403, &store, &[("host", host), ("origin", "null")]),
        (403, &store, &[("host", host), ("origin", &elsewhere)]),
        (403, &store, &[("host", host), ("sec-fetch-site", "same-site")]),
        (403, path, &[("host", host), ("sec-fetch-site", "cross-site")]),
        (404, &format!("{path}nothing"), &[("host", host)]),
    ];
    for (status, path, headers) in rows {
        let answer = page.send("GET", path, headers, "");
        assert_eq!(answer.status, *status, "{path} {headers:?}: {answer:?}");
        assert!(*status == 200 || !answer.body.contains(token), "{answer:?}");
        assert!(answer.head.contains("x-content-type-options: nosniff"), "{answer:?}");
    }
    // The page's own files are named from its directory.
    let bare = page.send("GET", path.trim_end_matches('/'), &[("host", host)], "");
    assert!(bare.status == 308 && bare.head.contains(&format!("location: {path}\r\n")), "{bare:?}");
    assert_eq!(page.send("DELETE", &store, &[("host", host)], "").status, 405);
    assert_eq!(
        page.get("store").body,
        r#"{"v":1,"backend":"redb","writable":false,"watches":true,"locks":true}"#
    );
    interrupt(ui);
}

#[test]
fn a_page_that_may_only_read_changes_nothing() {
    let place = Place::redb();
    let version = place.ok(&["put", "a", "1"]);
    let (ui, page) = open(&place, &[]);
    for (what, object) in [
        ("put", r#"{"key":"b","value":"2","version":null}"#.to_owned()),
        ("delete", format!(r#"{{"key":"a","version":"{}"}}"#, version.trim_end())),
        ("break", r#"{"name":"a","token":1}"#.to_owned()),
    ] {
        let refused = page.post(what, &object);
        assert_eq!(refused.status, 403, "{refused:?}");
        assert!(refused.body.contains("start it with `kv ui --write`"), "{refused:?}");
    }
    interrupt(ui);
    assert_eq!(place.ok(&["ls", "-rl"]), "a\t1\n");
}

#[test]
fn a_page_shows_the_tree_and_the_values() {
    let place = Place::redb();
    let version = place.ok(&["put", "app/a b&c", r#"{"x":1}"#]);
    place.ok(&["put", "app/nodes/1", "up"]);
    place.run_with(&["put", "app/bytes", "-"], b"\xff");
    place.ok(&["put", "z", "1"]);
    let (ui, page) = open(&place, &[]);
    let object = |answer: crate::http::Answer| (answer.status, answer.body);
    let listed = |items: &str, more| (200, format!("{{\"v\":1,\"items\":[{items}],\"more\":{more}}}"));
    assert_eq!(object(page.get("list")), listed(r#"{"directory":"app/"},{"key":"z"}"#, false));
    let below = r#"{"key":"app/a b&c"},{"key":"app/bytes"},{"directory":"app/nodes/"}"#;
    assert_eq!(object(page.get("list?directory=app/")), listed(below, false));
    assert_eq!(
        object(page.get("list?directory=app&after=app/bytes")),
        listed(r#"{"directory":"app/nodes/"}"#, false)
    );
    assert_eq!(object(page.get("list?after=app/")), listed(r#"{"key":"z"}"#, false));
    let entry =
        format!(r#"{{"v":1,"key":"app/a b&c","value":"{{\"x\":1}}","version":"{}"}}"#, version.trim_end());
    assert_eq!(object(page.get("key?key=app/a+b%26c")), (200, entry));
    assert!(page.get("key?key=app/bytes").body.contains(r#""base64":"/w==""#));
    for (status, path) in
        [(404, "key?key=none"), (400, "key?key=a/../b"), (400, "key"), (400, "list?directory=../a")]
    {
        assert_eq!(page.get(path).status, status, "{path}");
    }
    interrupt(ui);
    let (ui, page) = open(&place, &["-d", "app"]);
    let below = r#"{"key":"a b&c"},{"key":"bytes"},{"directory":"nodes/"}"#;
    assert_eq!(object(page.get("list")), listed(below, false));
    interrupt(ui);
}

#[test]
fn an_edit_that_is_allowed_is_made_and_heard_of() {
    let place = Place::redb();
    place.ok(&["put", "before", "1"]);
    let mut ui = place.command(&["ui", "--write", "--json"]).spawn().unwrap();
    let told: serde_json::Value = serde_json::from_str(&line(&mut ui)).unwrap();
    assert_eq!((told["v"].as_u64(), told["writable"].as_bool()), (Some(1), Some(true)));
    let page = Page::at(told["url"].as_str().unwrap());
    let mut events = page.events();
    assert_eq!(events.next("synced"), "{\"v\":1}");

    let put = page.post("put", r#"{"key":"app/a","value":"1","version":null}"#);
    assert_eq!(put.status, 200, "{put:?}");
    let put: serde_json::Value = serde_json::from_str(&put.body).unwrap();
    let version = put["version"].as_str().unwrap();
    let heard = format!(r#"{{"v":1,"event":"put","key":"app/a","value":"1","version":"{version}"}}"#);
    assert_eq!(events.next("change"), heard);
    for late in [
        page.post("put", r#"{"key":"app/a","value":"2","version":null}"#),
        page.post("put", r#"{"key":"app/a","value":"2","version":"1000000"}"#),
        page.post("delete", r#"{"key":"app/a","version":"1000000"}"#),
        page.post("break", r#"{"name":"app/a","token":7}"#),
    ] {
        assert_eq!(late.status, 409, "{late:?}");
    }
    for (status, what, object) in [
        (400, "put", "secret"),
        (400, "put", r#"{"key":"../a","value":"secret","version":null}"#),
        (400, "put", r#"{"key":"a","value":"secret","base64":"","version":null}"#),
        (400, "delete", r#"{"key":"app/a"}"#),
    ] {
        let wrong = page.post(what, object);
        assert_eq!(wrong.status, status, "{object}: {wrong:?}");
        assert!(!wrong.body.contains("secret"), "{wrong:?}");
    }
    // What a form of another page can send.
    let form = [("host", &*page.host), ("content-type", "text/plain")];
    let object = r#"{"key":"app/b","value":"2","version":null}"#;
    assert_eq!(page.send("POST", &format!("{}put", page.path), &form, object).status, 415);

    let long = "x".repeat(1000);
    let put = format!(r#"{{"key":"app/a","value":"{long}","version":"{version}"}}"#);
    let put: serde_json::Value = serde_json::from_str(&page.post("put", &put).body).unwrap();
    let version = put["version"].as_str().unwrap();
    let heard = format!(r#"{{"v":1,"event":"put","key":"app/a","version":"{version}"}}"#);
    assert_eq!(events.next("change"), heard, "a long value is not told");
    assert_eq!(page.post("delete", &format!(r#"{{"key":"app/a","version":"{version}"}}"#)).status, 200);
    assert!(events.next("change").starts_with(r#"{"v":1,"event":"delete","key":"app/a","version":""#));
    let latency: serde_json::Value = serde_json::from_str(&events.next("latency")).unwrap();
    assert!(latency["micros"].as_u64().is_some(), "{latency}");
    kill_process(Pid::from_child(&ui), Signal::TERM).unwrap();
    assert_eq!(end(ui).code, 143);
    assert_eq!(place.ok(&["ls", "-r"]), "before\n");
}
