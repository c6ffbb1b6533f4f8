//! Names: the normal form, what is refused, and the order.

use kv_core::{
    Directory, Entry, ErrorKind, Item, Key, Position, Version,
    driver::{Cursor, ListOptions, Page},
};

fn key(name: &str) -> Key {
    Key::parse(name).unwrap_or_else(|e| panic!("{name:?}: {e}"))
}

#[test]
fn slashes_are_normalised() {
    for same in ["a/b", "/a/b", "a/b/", "//a///b//"] {
        assert_eq!(key(same).as_str(), "a/b", "{same:?}");
    }
    assert_eq!(Directory::parse("/").unwrap(), Directory::root());
    assert_eq!(Directory::parse("//x//").unwrap().as_str(), "x");
}

#[test]
fn bad_names_are_refused_with_the_rule() {
    let long = "k".repeat(513);
    for (name, rule) in [
        ("", "is empty"),
        ("//", "is empty"),
        (".", "reserved"),
        ("a/../b", "reserved"),
        ("a/./b", "reserved"),
        (".kv", "reserved"),
        ("a/.kv/b", "reserved"),
        (" a", "white space"),
        ("a/b ", "white space"),
        ("a/\u{a0}b", "white space"),
        ("a/ /b", "white space"),
        ("a\u{0}", "control"),
        ("a\u{7f}", "control"),
        ("a\u{85}b", "control"),
        ("a\u{fffe}", "noncharacter"),
        ("a\u{fdd0}", "noncharacter"),
        ("a\u{10ffff}", "noncharacter"),
        (&long, "513 bytes"),
    ] {
        let e = Key::parse(name).expect_err(name);
        assert_eq!(e.kind(), ErrorKind::InvalidKey, "{name:?}");
        assert!(e.message().contains(rule), "{name:?}: {e}");
        assert!(e.to_string().len() < 300, "{e}");
    }
}

#[test]
fn every_other_character_is_a_name() {
    let longest = "k".repeat(512);
    for name in [
        "a b",
        "%2F",
        "?",
        "#",
        "*",
        "\"'`",
        "🦀",
        "..a",
        ".kvx",
        "\u{e000}",
        "a\u{200b}b",
        "-",
        "\\",
        &longest,
    ] {
        assert_eq!(key(name).as_str(), name);
        assert_eq!(Key::from_stored(name), Some(key(name)));
    }
}

#[test]
fn foreign_names_are_no_keys() {
    let long = "k".repeat(1001);
    for name in ["", "/", "/a", "a/", "a//b", "a/../b", ".kv/lock/x", " a", "a\n", &long] {
        assert_eq!(Key::from_stored(name), None, "{name:?}");
    }
    assert!(Key::from_stored(&long[1..]).is_some(), "a store holds names of 1,000 bytes");
}

#[test]
fn directories_end_at_segments() {
    let app = Directory::parse("app").unwrap();
    assert!(key("app/x").is_below(&app));
    assert!(
        !key("app").is_below(&app) && !key("application/x").is_below(&app) && !key("app.x").is_below(&app)
    );
    assert_eq!(app.child_of(&key("app/x/y/z")), Some(Directory::parse("app/x").unwrap()));
    assert_eq!(app.child_of(&key("app/x")), None);
    assert_eq!(app.child_of(&key("b/x/y")), None);
    assert_eq!(Directory::root().child_of(&key("x/y")), Some(Directory::parse("x").unwrap()));
    assert_eq!(key("a/b/c").ancestors().collect::<Vec<_>>(), ["", "a", "a/b"]);
    assert_eq!(key("a/b/c").parent(), Directory::parse("a/b").unwrap());
    assert_eq!(key("a").parent(), Directory::root());
}

#[test]
fn prefixes_join_and_strip() {
    let at = Directory::parse("tenant/7").unwrap();
    let joined = at.join(&key("a/b")).unwrap();
    assert_eq!(joined.as_str(), "tenant/7/a/b");
    assert_eq!(at.strip(&joined), Some(key("a/b")));
    assert_eq!(at.strip(&key("tenant/70/a")), None);
    assert_eq!(at.strip_directory(&at), Some(Directory::root()));
    assert_eq!(at.join_directory(&Directory::root()).unwrap(), at);
    let (long, longer) =
        (Directory::parse(&"d".repeat(487)).unwrap(), Directory::parse(&"d".repeat(488)).unwrap());
    let name = key(&"k".repeat(512));
    assert_eq!(long.join(&name).unwrap().as_str().len(), 1000);
    assert_eq!(longer.join(&name).unwrap_err().kind(), ErrorKind::InvalidKey);
}

#[test]
fn internal_keys_are_nobodys() {
    let lock = Key::internal("lock", &key("leader"));
    assert!(lock.is_internal() && !key(".kvx/a").is_internal());
    assert!(Key::parse(lock.as_str()).is_err() && Key::from_stored(lock.as_str()).is_none());
}

#[test]
fn a_directory_counts_as_its_name_and_a_slash() {
    let directory = |name: &str| Position::Directory(Directory::parse(name).unwrap());
    let mut places = [
        Position::Key(key("a0")),
        directory("a"),
        Position::Key(key("a.b")),
        Position::Key(key("a/b")),
        Position::Key(key("a")),
    ];
    places.sort();
    let order: Vec<_> = places.iter().map(Position::start).collect();
    assert_eq!(order, ["a", "a.b", "a/", "a/b", "a0"]);
}

#[test]
fn a_cut_selection_goes_on_behind_its_last_item() {
    let names = ["d/a", "d/b/1", "d/b/2", "d/b.x", "d/c", "e"];
    let all = || names.map(|n| Entry::new(key(n), "v", Version::new(1, 0)));
    let d = Directory::parse("d").unwrap();
    let options = ListOptions::default().recursive(false).limit(Some(1)).keys_only(true);
    let (mut from, mut seen) = (None::<Cursor>, Vec::new());
    loop {
        let page = Page::select(all(), &d, &options, from.as_ref());
        assert!(page.items.len() <= 1);
        seen.extend(page.items.iter().map(|i| i.position().start()));
        from = page.next;
        if from.is_none() {
            break;
        }
    }
    assert_eq!(seen, ["d/a", "d/b.x", "d/b/", "d/c"]);
    let after = ListOptions::default().start_after(Some(Position::from(key("d/b.x"))));
    let page = Page::select(all(), &d, &after, None);
    let keys: Vec<_> = page.items.iter().filter_map(Item::key).map(Key::as_str).collect();
    assert_eq!(keys, ["d/b/1", "d/b/2", "d/c"]);
}

#[test]
fn versions_print_and_parse() {
    for version in
        [Version::new(0, 0), Version::new(7, 0), Version::new(u64::MAX, u64::MAX), Version::new(3, 4)]
    {
        assert_eq!(version.to_string().parse::<Version>().unwrap(), version);
    }
    for bad in ["", "x", "1.", ".1", "-1", "+1", "1.2.3", "99999999999999999999", " 1"] {
        assert_eq!(bad.parse::<Version>().unwrap_err().kind(), ErrorKind::InvalidArgument, "{bad:?}");
    }
}
