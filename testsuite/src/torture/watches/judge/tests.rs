use super::*;

fn v(version: u64) -> Version {
    Version::new(version, 0)
}

/// Returns a put that was answered.
fn put(value: &str, version: u64, began: u64, ended: u64) -> Write {
    let fate = Fate::Done(Some(v(version)));
    let (client, key, value) = ("w".into(), "tree/k".into(), Some(value.into()));
    Write { client, key, value, ttl: None, began, ended, fate }
}

fn delete(began: u64, ended: u64) -> Write {
    Write { value: None, fate: Fate::Done(None), ..put("", 0, began, ended) }
}

fn told(value: &str, version: u64) -> Event {
    Event::Put("tree/k".into(), value.into(), v(version))
}

fn end(version: u64) -> Event {
    Event::Delete("tree/k".into(), v(version))
}

/// Returns what is wrong with a watch of `tree` that was asked for at 50.
fn wrong(writes: Vec<Write>, heard: Vec<(u64, Event)>, losses: &Losses) -> Vec<String> {
    let stream = Stream { client: "f".into(), scope: Scope::Tree("tree"), began: 50, heard };
    let violations = judge(&stream, &Writes::new(writes), &mut Versions::default(), losses);
    violations.into_iter().map(|violation| violation.what).collect()
}

/// Returns the losses of a copy that was put back while all of it went on.
fn restored() -> Losses {
    Losses::new([(0, 1000, true)])
}

/// Returns the losses of another member that took over between these moments.
fn failed_over(began: u64, ended: u64) -> Losses {
    Losses::new([(began, ended, false)])
}

fn one(writes: Vec<Write>, heard: Vec<(u64, Event)>, says: &str) {
    // A store that has lost writes is blamed for less.
    let (blamed, _) =
        (wrong(writes.clone(), heard.clone(), &Losses::default()), wrong(writes, heard, &restored()));
    assert!(blamed.len() == 1 && blamed[0].contains(says), "{blamed:?}");
}

#[test]
fn streams_that_are_right_are_not_blamed() {
    let unknown = Write { fate: Fate::Unknown, ..put("u", 0, 70, 80) };
    let brief = Write { ttl: Some(100), ..put("t", 9, 300, 310) };
    let writes = vec![put("a", 1, 0, 9), delete(60, 200), put("b", 5, 210, 220), unknown, brief];
    let heard = vec![
        (51, told("a", 1)),
        (52, Event::Synced),
        (75, told("u", 3)),
        (100, end(4)),
        (215, told("b", 5)),
        (301, Event::Synced),
        (302, told("t", 9)),
        (400, end(9)),
    ];
    assert!(wrong(writes.clone(), heard.clone(), &Losses::default()).is_empty());
    assert!(wrong(writes, heard, &restored()).is_empty());
    // An end may have the version that was told last, and be told again in another section.
    let heard =
        vec![(51, told("a", 1)), (52, Event::Synced), (61, end(1)), (62, Event::Synced), (63, end(1))];
    assert!(wrong(vec![put("a", 1, 0, 9), delete(60, 61)], heard, &Losses::default()).is_empty());
}

#[test]
fn a_version_that_does_not_grow_is_seen() {
    let writes = vec![put("a", 1, 0, 9), put("b", 2, 10, 19)];
    one(writes.clone(), vec![(51, told("b", 2)), (52, Event::Synced), (53, told("a", 1))], "after 2");
    one(writes.clone(), vec![(51, told("b", 2)), (52, told("b", 2)), (53, Event::Synced)], "after 2");
    one(writes, vec![(51, told("b", 2)), (52, Event::Synced), (53, told("b", 2))], "after 2");
}

#[test]
fn an_older_copy_explains_versions_and_ends() {
    let heard = vec![(51, told("b", 2)), (52, Event::Synced), (53, end(1)), (54, told("a", 1))];
    assert!(wrong(vec![put("a", 1, 0, 9), put("b", 2, 10, 19)], heard, &restored()).is_empty());
}

#[test]
fn an_end_at_an_older_version_is_seen() {
    one(vec![put("a", 5, 0, 9), delete(55, 60)], vec![(51, told("a", 5)), (58, end(4))], "after 5");
}

#[test]
fn an_end_told_twice_is_seen() {
    let heard = vec![(51, told("a", 1)), (58, end(1)), (59, end(1))];
    one(vec![put("a", 1, 0, 9), delete(55, 60)], heard, "twice");
}

#[test]
fn a_failover_explains_what_goes_back_behind_an_end_and_no_more() {
    let writes = || vec![put("a", 1, 0, 9), put("b", 2, 10, 19), put("c", 3, 100, 109)];
    let lost = |then: (u64, Event)| {
        vec![(51, told("b", 2)), (52, Event::Synced), (70, end(2)), (71, told("a", 1)), then]
    };
    let fine = lost((110, told("c", 3)));
    assert!(wrong(writes(), fine.clone(), &failed_over(60, 69)).is_empty());
    assert!(!wrong(writes(), fine, &failed_over(200, 210)).is_empty(), "nothing was lost by then");
    let again = wrong(writes(), lost((110, told("b", 2))), &failed_over(60, 69));
    assert!(again.len() == 1 && again[0].contains("which was lost"), "{again:?}");
    // Without an end in between nobody is told of a loss.
    let back = vec![(51, told("b", 2)), (52, Event::Synced), (71, told("a", 1))];
    let back = wrong(writes(), back, &failed_over(60, 69));
    assert!(back.len() == 1 && back[0].contains("after"), "{back:?}");
}

#[test]
fn a_version_of_two_values_is_seen() {
    let mut writes = [put("a", 1, 0, 9), put("b", 1, 20, 29)];
    writes.iter_mut().for_each(|write| write.fate = Fate::Unknown);
    let heard = vec![(51, told("a", 1)), (52, Event::Synced), (70, end(1)), (71, told("b", 1))];
    let seen = wrong(writes.into(), heard, &failed_over(60, 69));
    assert!(seen.iter().any(|what| what.contains("which a has")), "{seen:?}");
}

#[test]
fn an_end_that_nobody_brought_about_is_seen() {
    let heard = vec![(51, told("a", 1)), (58, end(1))];
    one(vec![put("a", 1, 10, 19)], heard.clone(), "nobody");
    one(vec![delete(0, 9), put("a", 1, 10, 19)], heard.clone(), "nobody");
    one(vec![put("a", 1, 10, 19), delete(59, 70)], heard.clone(), "nobody");
    one(vec![put("a", 1, 10, 19), Write { fate: Fate::Failed, ..delete(52, 53) }], heard.clone(), "nobody");
    one(vec![Write { ttl: Some(60), ..put("a", 1, 10, 19) }], heard, "nobody");
}

#[test]
fn a_value_that_nobody_wrote_is_seen() {
    let heard = vec![(51, told("x", 1))];
    one(vec![put("a", 1, 60, 69)], heard.clone(), "nobody wrote");
    assert_eq!(wrong(vec![], heard, &restored()).len(), 1, "a loss does not explain it");
}

#[test]
fn a_value_of_a_failed_write_is_seen() {
    let failed = Write { fate: Fate::Failed, ..put("a", 1, 0, 9) };
    one(vec![failed.clone()], vec![(51, told("a", 1))], "had failed");
    assert_eq!(
        wrong(vec![failed], vec![(51, told("a", 1))], &restored()).len(),
        1,
        "a loss does not explain it"
    );
}

#[test]
fn a_value_at_another_version_is_seen() {
    one(vec![put("a", 1, 0, 9)], vec![(51, told("a", 2))], "but has 1");
    let writes = Writes::new(vec![Write { fate: Fate::Unknown, ..put("a", 1, 0, 9) }]);
    let mut versions = Versions::default();
    let of = |version| {
        let heard = vec![(51, told("a", version))];
        Stream { client: "f".into(), scope: Scope::Tree("tree"), began: 50, heard }
    };
    assert!(judge(&of(3), &writes, &mut versions, &Losses::default()).is_empty());
    assert_eq!(
        judge(&of(4), &writes, &mut versions, &Losses::default()).len(),
        1,
        "two streams tell two versions of one write"
    );
}

#[test]
fn a_value_told_before_it_was_written_is_seen() {
    one(vec![put("a", 1, 60, 70)], vec![(59, told("a", 1))], "before it was written");
}

#[test]
fn an_event_from_outside_is_seen() {
    let outside = |key: &str| vec![(51, Event::Put(key.into(), "a".into(), v(1)))];
    one(vec![], outside("tree-other/k"), "told of");
    one(vec![], outside("tree"), "told of");
    one(vec![], vec![(51, Event::Delete("beside".into(), v(1)))], "told of");
    assert!(
        Scope::Tree("tree/dir").concerns("tree/dir/a")
            && !Scope::Tree("tree/dir").concerns("tree/dir-other/a")
    );
    assert!(Scope::Key("tree/a").concerns("tree/a") && !Scope::Key("tree/a").concerns("tree/a/b"));
}

#[test]
fn a_snapshot_without_what_was_there_is_seen() {
    one(vec![put("a", 1, 0, 9)], vec![(51, Event::Synced)], "in sync without");
    one(vec![put("a", 1, 0, 9), put("b", 2, 10, 49)], vec![(51, told("a", 1)), (52, Event::Synced)], "at 2");
    // The key was written while the watch began, or somebody may have ended it.
    assert!(wrong(vec![put("a", 1, 45, 55)], vec![(51, Event::Synced)], &Losses::default()).is_empty());
    assert!(
        wrong(vec![put("a", 1, 0, 9), delete(40, 60)], vec![(51, Event::Synced)], &Losses::default())
            .is_empty()
    );
}

#[test]
fn what_differs_is_told() {
    let map = |all: &[(&str, &str, u64)]| {
        all.iter().map(|(k, value, at)| ((*k).to_owned(), ((*value).to_owned(), v(*at)))).collect()
    };
    let there = map(&[("a", "1", 1), ("b", "2", 2)]);
    assert_eq!(difference(&there, &there), None);
    for told in
        [map(&[("a", "1", 1)]), map(&[("a", "1", 1), ("b", "2", 3)]), map(&[("a", "1", 1), ("b", "3", 2)])]
    {
        assert!(difference(&told, &there).is_some());
        assert!(difference(&there, &told).is_some());
    }
}

#[test]
fn what_a_failover_lost_goes_back_behind_an_end() {
    let writes = vec![put("a", 1, 0, 9), put("b", 2, 10, 19), put("c", 3, 80, 90)];
    let back =
        vec![(51, told("b", 2)), (52, Event::Synced), (63, end(2)), (64, told("a", 1)), (91, told("c", 3))];
    assert!(wrong(writes.clone(), back.clone(), &failed_over(55, 62)).is_empty());
    // Values go back not before there was a failover, not without the end, and not forth again.
    assert_eq!(wrong(writes.clone(), back, &failed_over(70, 75)).len(), 2);
    let without = vec![(51, told("b", 2)), (52, Event::Synced), (64, told("a", 1))];
    assert_eq!(wrong(writes.clone(), without, &failed_over(55, 62)).len(), 1);
    let forth = vec![(51, told("b", 2)), (63, end(2)), (64, told("a", 1)), (66, told("b", 2))];
    assert_eq!(wrong(writes, forth, &failed_over(55, 62)).len(), 1);
}

#[test]
fn a_version_that_is_told_of_two_values_is_seen_behind_a_failover() {
    let writes = vec![put("a", 1, 0, 9), Write { fate: Fate::Unknown, ..put("b", 0, 10, 19) }];
    let heard = vec![(51, told("a", 1)), (63, end(1)), (64, told("b", 1))];
    let blamed = wrong(writes, heard, &failed_over(55, 62));
    assert!(blamed.len() == 1 && blamed[0].contains("which a has"), "{blamed:?}");
}
