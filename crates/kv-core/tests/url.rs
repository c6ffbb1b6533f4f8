//! URLs of stores, and the registry.

use kv_core::{ErrorKind, Registry, StoreUrl};

#[test]
fn several_hosts_ports_and_logins() {
    let url = StoreUrl::parse("etcd://user:p%40ss%2F@h1:1,h2,[::1],[::1]:2/a/b/?x=%20").unwrap();
    assert_eq!((url.scheme(), url.user()), ("etcd", Some("user")));
    assert_eq!(url.password().unwrap().reveal(), "p@ss/");
    assert_eq!(url.hosts_or(2379), ["h1:1", "h2:2379", "[::1]:2379", "[::1]:2"]);
    assert_eq!(url.prefix(), "a/b/");
}

#[test]
fn prefixes_are_byte_for_byte() {
    for (url, prefix) in [
        ("etcd://h", ""),
        ("etcd://h/", ""),
        ("etcd://h/app", "app"),
        ("etcd://h/app/", "app/"),
        ("etcd://h//app", "/app"),
        ("etcd://h/a%20b%3Fc", "a b?c"),
    ] {
        assert_eq!(StoreUrl::parse(url).unwrap().prefix(), prefix, "{url}");
    }
}

#[test]
fn files_are_all_between_scheme_and_parameters() {
    for (url, file) in [
        ("redb:///var/a.redb?cache=1", "/var/a.redb"),
        ("redb://a.redb", "a.redb"),
        ("redb://dir/a%20b.redb", "dir/a b.redb"),
    ] {
        assert_eq!(StoreUrl::parse(url).unwrap().file(), file, "{url}");
    }
}

#[test]
fn what_is_no_url_is_refused_without_its_text() {
    for bad in [
        "",
        "etcd",
        "etcd:/h",
        "://h",
        "e tcd://h",
        "etcd://u:hunter2@h,,h",
        "etcd://u:hunter2%zz@h",
        "etcd://u:hunter2@h/#x",
        "etcd://u:hunter2@h?a=1&a=2",
        "etcd://u:hunter2%ff@h",
        "etcd://u:hunter2/x@h/app",
        "etcd://u:hunter2?x@h/app",
        "etcd://u:hunter2?a=1/x@h1,h2",
    ] {
        let e = StoreUrl::parse(bad).expect_err(bad);
        assert_eq!(e.kind(), ErrorKind::InvalidArgument, "{bad:?}");
        assert!(e.to_string().contains("expected scheme://"), "{e}");
        assert!(!e.to_string().contains("hunter2"), "{e}");
    }
}

#[test]
fn unknown_parameters_list_the_known() {
    let mut url = StoreUrl::parse("etcd://h?ca=x&tls=maybe").unwrap();
    assert_eq!(url.take::<String>("ca").unwrap().as_deref(), Some("x"));
    assert_eq!(url.take::<u16>("port").unwrap(), None);
    let e = url.finish().unwrap_err();
    assert_eq!(e.message(), r#"unknown parameter "tls" in the etcd URL; known: ca, port"#);
    let mut url = StoreUrl::parse("etcd://h?port=hunter2").unwrap();
    let e = url.take::<u16>("port").unwrap_err();
    assert!(
        e.message().contains("port")
            && e.message().contains("a whole number from 0 to 65535")
            && !e.message().contains("hunter2"),
        "{e}"
    );
}

#[test]
fn nothing_secret_is_shown() {
    let url = StoreUrl::parse("etcd://joe:hunter2@h:1/p?token=hunter2").unwrap();
    for shown in [format!("{url:?}"), format!("{url}"), format!("{:?}", url.password())] {
        assert!(!shown.contains("hunter2") && !shown.contains("joe"), "{shown}");
    }
    assert_eq!(url.to_string(), "etcd://***@h:1/p?token=***");
}

#[tokio::test]
async fn the_registry_names_what_it_knows() {
    let registry = Registry::new().with("memory", kv_memory::from_url);
    let e = registry.open("mysql://u:hunter2@h/x").await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::InvalidArgument);
    assert_eq!(e.message(), r#"no backend is registered for "mysql"; known: memory"#);
    assert!(registry.open("MEMORY://").await.is_ok());
    assert!(Registry::new().open("x://").await.unwrap_err().message().contains("known: none"));
}
