//! Transfers beside keys that other tools wrote, which are in no listing.

use crate::{program::Place, redis::Redis};

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_the_source_has_and_does_not_list_is_not_deleted() {
    let redis = Redis::start().await;
    let place = Place::redb();
    let (from, to) = (redis.url(""), place.url("app"));
    let source = Place::at(&from);
    source.ok(&["put", "a", "1"]);
    redis.say("SET app/theirs v");
    for key in ["app/theirs", "extra"] {
        place.ok(&["put", key, "v"]);
    }
    for more in [&["--dry-run"][..], &[]] {
        let ended = place.run(&[&["sync", &from, &to, "--delete", "--max-delete", "1", "-v"], more].concat());
        assert_eq!(ended.code, 0, "{ended:?}");
        assert!(ended.out.starts_with("+ a\n- extra\n"), "{ended:?}");
        assert!(
            ended.out.contains("created 1, replaced 0, deleted 1; 0 were the same; 1 were left out"),
            "{ended:?}"
        );
        let told =
            "kv: 1 keys are not deleted, since the source has them, and does not list them: \"app/theirs\"";
        assert!(ended.err.contains(told), "{ended:?}");
    }
    assert_eq!(place.ok(&["ls", "-r"]), "a\napp/theirs\n");
    // Once they are listed, they are compared as others are.
    source.ok(&["adopt"]);
    let ended = place.run(&["sync", &from, &to, "--delete"]);
    assert_eq!((ended.code, &*ended.err), (0, ""), "{ended:?}");
    assert!(ended.out.starts_with("created 0, replaced 0, deleted 0; 2 were the same"), "{ended:?}");
}
