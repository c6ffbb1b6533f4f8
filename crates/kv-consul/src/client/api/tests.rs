use super::{
    json::is_replaced,
    kv::listed,
    pair::pairs,
    txn::{Done, done},
};
use crate::client::{Answer, Mark};
use bytes::Bytes;

#[test]
fn names_that_are_no_text_are_told_apart() {
    assert!(is_replaced(r#""a\ufffdb""#));
    assert!(is_replaced(r#""\\\ufffd""#));
    assert!(!is_replaced(r#""a\\ufffdb""#));
    assert!(!is_replaced("\"a\u{fffd}b\""));
}

#[test]
fn a_listing_is_read_without_its_values() {
    let body = Bytes::from_static(
        br#"[{"LockIndex":0,"Key":"a\"b","Flags":7,"Value":"aGk=","CreateIndex":3,"ModifyIndex":5},
             {"LockIndex":0,"Key":"a\ufffd","Flags":0,"Value":null,"CreateIndex":3,"ModifyIndex":5},
             {"LockIndex":1,"Key":"c","Flags":0,"Value":null,"Session":"x","CreateIndex":4,"ModifyIndex":4}]"#,
    );
    let pairs = pairs(&body).unwrap();
    let seen: Vec<_> =
        pairs.iter().map(|p| (&*p.name, p.value().unwrap(), p.created, p.modified, p.is_held)).collect();
    assert_eq!(seen, [("a\"b", Bytes::from_static(b"hi"), 3, 5, false), ("c", Bytes::new(), 4, 4, true)]);
}

fn answer(status: u16, index: Option<u64>, body: &'static str) -> Answer {
    Answer {
        status,
        index,
        is_text: !body.starts_with(['{', '[', '<']),
        mark: Mark::Strong,
        body: body.into(),
    }
}

#[test]
fn what_has_no_mark_of_consuls_is_no_answer() {
    assert!(listed(&answer(404, Some(7), "")).is_some());
    assert!(listed(&answer(200, Some(7), "[]")).is_some());
    for other in [
        answer(404, None, ""),
        answer(404, None, "404 page not found"),
        answer(200, None, "[]"),
        answer(200, Some(7), "<html>"),
        answer(200, Some(7), "{}"),
        answer(403, Some(7), "[]"),
    ] {
        assert!(listed(&other).is_none(), "{other:?}");
    }
    assert!(done(&answer(200, None, r#"{"Results": null, "Errors": null}"#)).is_some());
    let conflict = r#"{"Results": null, "Errors": [{"OpIndex": 0, "What": "key \"a\" exists"}]}"#;
    assert!(matches!(done(&answer(409, None, conflict)), Some(Done::Refused(_))));
    for other in [
        answer(200, None, "{}"),
        answer(200, None, r#"{"status": "ok"}"#),
        answer(200, None, conflict),
        answer(409, None, r#"{"Results": null, "Errors": null}"#),
        answer(404, None, conflict),
    ] {
        assert!(done(&other).is_none(), "{other:?}");
    }
}
