use super::slot::SLOTS;
use super::*;

fn names(prefix: &str) -> Names {
    Names::new(prefix).unwrap()
}

#[test]
fn every_key_comes_back_and_no_two_share_a_node() {
    let odd = [
        "a",
        "%",
        "%%",
        "%2F",
        "%252F",
        "%25",
        "%2525",
        "%41",
        "%7Aookeeper",
        "%257Aookeeper",
        "zookeeper",
        "zookeeper/config",
        "😀",
        "%F0%9F%98%80",
        "%25F0%9F%98%80",
        "%F0",
        "%F0😀",
        "%😀",
        "%4😀",
        "\u{e000}",
        "\u{fffd}",
        "\u{feff}x",
        "a/😀/b",
        "a/zookeeper",
        "%2",
        "%zz",
        "%f0%9f%98%80",
        "%25😀",
        "%%25",
    ];
    for root in ["", "app", "app/x/"] {
        let names = names(root);
        let mut seen = std::collections::HashSet::new();
        for name in odd {
            let key = Key::parse(name).unwrap();
            let node = names.key(&key);
            assert_eq!(names.parse(&node), Some(Named::Key(key.clone())), "{name} as {node}");
            assert!(seen.insert(node), "{name} has the node of another");
            assert_eq!(names.parse(&format!("{}/0-1", names.queue(&key))), Some(Named::Lock(key)));
        }
    }
}

#[test]
fn names_of_other_tools_are_what_they_seem_or_nothing() {
    let names = names("");
    let found = |path: &str| match names.parse(path) {
        Some(Named::Key(key)) => Some(key.as_str().to_owned()),
        _ => None,
    };
    assert_eq!(found("/a%20b").as_deref(), Some("a%20b"));
    assert_eq!(found("/zookeeper/config"), None);
    assert_eq!(found("/a%2Fb").as_deref(), Some("a%2Fb"));
    assert_eq!(found("/%25"), None);
    assert_eq!(found("/ a"), None);
    assert_eq!(found("/a/.kv").as_deref(), Some("a"));
}

#[test]
fn what_begins_like_our_own_nodes_is_a_key() {
    for root in ["", "app"] {
        let names = names(root);
        for name in [".kvx", ".kvstore/b", ".kv.kv", "a/.kvx", "a.kv", "a.kv/b", ".kvx/.k"] {
            let key = Key::parse(name).unwrap();
            assert_eq!(names.parse(&names.key(&key)), Some(Named::Key(key.clone())), "{name}");
            assert_eq!(names.parse(&Names::mark(&names.key(&key))), Some(Named::Key(key)), "{name}");
        }
        let own = names.own();
        for own in [own.clone(), format!("{own}/epoch/3"), format!("{own}/lock"), format!("{own}/lockx/a")] {
            assert_eq!(names.parse(&own), None, "{own}");
        }
    }
    // A node of another store, whose root lies in this one.
    assert_eq!(names("").parse("/in/.kv/lock/l/x-1"), None);
    assert_eq!(names("app").parse("/application/a"), None);
}

#[test]
fn the_slot_of_a_key_never_changes_and_neighbours_are_spread() {
    let slots: Vec<_> = (0..8).map(|n| slot(&Key::parse(&format!("app/{n}")).unwrap())).collect();
    assert_eq!(slots, SLOTS_OF_APP, "a store's counts would speak of other keys");
    let all: std::collections::HashSet<_> =
        (0..200).map(|n| slot(&Key::parse(&n.to_string()).unwrap())).collect();
    assert_eq!(all.len(), SLOTS);
}

const SLOTS_OF_APP: [usize; 8] = [5, 8, 1, 3, 7, 2, 13, 8];

#[test]
fn ancestors_begin_below_the_root() {
    let names = names("app/x");
    assert_eq!(names.ancestors("/app/x/a/b/c").collect::<Vec<_>>(), ["/app/x/a", "/app/x/a/b"]);
    assert_eq!(names.roots().collect::<Vec<_>>(), ["/app", "/app/x"]);
    let top = Names::new("").unwrap();
    assert_eq!(top.ancestors("/a/b").collect::<Vec<_>>(), ["/a"]);
    assert_eq!(top.roots().count(), 0);
}
