use super::{widths::MOST, *};
use crate::client::Pool;

#[test]
fn ranges_widen_within_the_store() {
    let name = |name: &str| Range::Name(name.into());
    let tree = |name: &str| Range::Tree(name.into());
    let wide = |range: &Range| widths("p/", range);
    assert_eq!(wide(&name("p/a/b/c")), [name("p/a/b/c"), tree("p/a/b/"), tree("p/a/"), tree("p/")]);
    assert_eq!(wide(&tree("p/a/")), [tree("p/a/"), tree("p/"), tree("p/a/"), tree("p/")]);
    assert_eq!(wide(&tree("p/")), [tree("p/"), tree("p/"), tree("p/"), tree("p/")]);
    assert_eq!(
        wide(&name("p/.kv/lock/1/l/7"))[1..],
        [tree("p/.kv/lock/1/l/"), tree("p/.kv/lock/"), tree("p/")]
    );
    assert_eq!(widths("p", &name("px"))[1..], [tree("p"), tree("p"), tree("p")]);
}

#[test]
fn permits_are_for_all_stores_of_a_process() {
    let pool = Pool::of(&"permits:1".into());
    let taken: Vec<_> = std::iter::from_fn(|| Permit::take(&pool, 0)).collect();
    assert_eq!(taken.len(), MOST[0]);
    assert!(Permit::take(&Pool::of(&"permits:1".into()), 0).is_none());
    assert!(Permit::take(&Pool::of(&"permits:2".into()), 0).is_some());
    drop(taken);
    assert!(Permit::take(&pool, 0).is_some());
}
