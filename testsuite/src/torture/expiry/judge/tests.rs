use super::*;
use crate::torture::stroke::Stroke;

const SECOND: u64 = 1_000_000;

fn write(id: u32, life: Life, began: u64, ended: u64) -> Write {
    Write { id, life, began, ended: Some(ended) }
}

fn look(began: u64, ended: u64, found: Found) -> Look {
    Look { client: "r".into(), by: "get", began, ended, found, after: None }
}

fn blow(stroke: Stroke, began: u64, ended: u64) -> Blow {
    Blow { stroke, label: stroke.name().into(), began, ended }
}

/// Returns the times of a store in which the end of a TTL is at most 250 ms late.
fn times(blows: &[Blow]) -> Times {
    let range = Some(TtlRange::new(Duration::from_secs(1), Duration::from_secs(60)));
    let (blows, settled) = (blows.to_vec(), 100 * SECOND);
    Times { of_keys: range.clone(), of_leases: range, blows, settled }
}

/// Tells whether a look is blamed.
fn wrong(writes: &[Write], look: &Look, leases: &[Lease], blows: &[Blow]) -> bool {
    let times = times(blows);
    let history = History { writes: writes.to_vec(), looks: vec![look.clone()] };
    !judge("k", &history, leases, &times).is_empty()
}

/// Returns a put of a key for a second, between the moments 10 and 20.
fn brief() -> Write {
    write(1, Life::For(SECOND), 10, 20)
}

fn plain(writes: &[Write], began: u64, ended: u64, found: Found) -> bool {
    wrong(writes, &look(began, ended, found), &[], &[])
}

#[test]
fn an_early_end_is_seen() {
    assert!(plain(&[brief()], 30, SECOND / 2, Found::Nothing));
    assert!(!plain(&[brief()], 30, SECOND + 10, Found::Nothing), "it may have ended while it was read");
    assert!(!plain(&[brief()], 15, 30, Found::Nothing), "it may have been read before it was written");
    assert!(!plain(&[brief()], 30, SECOND / 2, Found::Value(1)));
}

#[test]
fn a_late_end_is_seen() {
    assert!(plain(&[brief()], 2 * SECOND, 2 * SECOND + 9, Found::Value(1)));
    assert!(plain(&[brief()], 2 * SECOND, 2 * SECOND + 9, Found::Something));
    assert!(!plain(&[brief()], SECOND, 2 * SECOND, Found::Value(1)), "it began in time");
    assert!(!plain(&[brief()], 2 * SECOND, 2 * SECOND + 9, Found::Nothing));
}

#[test]
fn an_outage_of_the_server_explains_a_late_end() {
    let late = |began, blow| wrong(&[brief()], &look(began, began + 9, Found::Value(1)), &[], &[blow]);
    // The key may live for its TTL, its lateness, the stroke, and 3 s and the TTL after the
    // stroke.
    assert!(!late(6 * SECOND, blow(Stroke::Kill, SECOND, 2 * SECOND)));
    assert!(late(7 * SECOND, blow(Stroke::Kill, SECOND, 2 * SECOND)), "it is over at last");
    assert!(
        late(6 * SECOND, blow(Stroke::Freeze, SECOND, 2 * SECOND)),
        "the server ends it without its clients"
    );
    assert!(late(9 * SECOND, blow(Stroke::Kill, 2 * SECOND, 4 * SECOND)), "it had to be gone before");
    assert!(late(30 * SECOND, blow(Stroke::Kill, 31 * SECOND, 32 * SECOND)));
}

#[test]
fn a_key_that_was_made_permanent_stays() {
    let writes = [brief(), write(2, Life::Forever, 30, 40)];
    assert!(plain(&writes, 50, 60, Found::Nothing));
    assert!(plain(&writes, 50 * SECOND, 60 * SECOND, Found::Nothing));
    assert!(!plain(&writes, 50 * SECOND, 60 * SECOND, Found::Value(2)));
}

#[test]
fn a_put_with_a_ttl_starts_it_anew() {
    let anew = SECOND * 9 / 10;
    let writes = [brief(), write(2, Life::For(SECOND), anew, anew + 10)];
    assert!(plain(&writes, SECOND + 20, SECOND + 90, Found::Nothing));
    assert!(plain(&writes, 3 * SECOND, 3 * SECOND + 9, Found::Value(2)));
    assert!(!plain(&writes, SECOND + 20, SECOND + 90, Found::Value(2)));
}

#[test]
fn a_value_that_cannot_be_is_seen() {
    let writes = [write(1, Life::Forever, 10, 20), write(2, Life::Forever, 30, 40)];
    assert!(plain(&writes, 50, 60, Found::Value(1)), "it was replaced");
    assert!(plain(&writes, 22, 25, Found::Value(2)), "it comes later");
    assert!(!plain(&writes, 22, 35, Found::Value(2)));
    assert!(!plain(&writes, 35, 50, Found::Value(1)));
    let writes = [write(1, Life::Forever, 10, 20), write(0, Life::Gone, 30, 40)];
    assert!(plain(&writes, 50, 60, Found::Something) && plain(&writes, 50, 60, Found::Value(1)));
    assert!(!plain(&writes, 50, 60, Found::Nothing));
    assert!(plain(&[], 50, 60, Found::Something));
    assert!(!plain(&[], 50, 60, Found::Nothing));
}

#[test]
fn a_look_of_the_writer_comes_between_two_writes() {
    let writes = [write(1, Life::Forever, 10, 20), write(0, Life::Gone, 30, 40)];
    // A deletion tells what it found.
    let deletion = |found| Look { after: Some(1), ..look(30, 40, found) };
    assert!(wrong(&writes, &deletion(Found::Nothing), &[], &[]));
    assert!(!wrong(&writes, &deletion(Found::Something), &[], &[]));
}

#[test]
fn what_is_unknown_may_be_or_not() {
    let writes = [write(1, Life::Forever, 10, 20), Write { ended: None, ..write(0, Life::Gone, 30, 0) }];
    for found in [Found::Nothing, Found::Value(1)] {
        assert!(!plain(&writes, 9 * SECOND, 10 * SECOND, found));
    }
    let writes = [Write { ended: None, ..brief() }];
    assert!(!plain(&writes, 99 * SECOND, 99 * SECOND + 1, Found::Value(1)));
    assert!(plain(&writes, 102 * SECOND, 103 * SECOND, Found::Value(1)), "it is too late for it at last");
}

/// Returns a key under a lease of a second that was seen to be held at 5 s.
fn leased(dropped: Option<u64>, revoked: Option<u64>) -> ([Write; 1], [Lease; 1]) {
    let lease = Lease { ttl: SECOND, held: 5 * SECOND, dropped, revoked, revocation: None };
    ([write(1, Life::Under(0), 10, 20)], [lease])
}

#[test]
fn a_key_whose_lease_is_held_is_there() {
    let (writes, lease) = leased(None, None);
    let wrong = |ended, found| wrong(&writes, &look(30, ended, found), &lease, &[]);
    assert!(wrong(4 * SECOND, Found::Nothing));
    assert!(!wrong(6 * SECOND, Found::Nothing), "it may have been lost");
    assert!(!wrong(4 * SECOND, Found::Value(1)));
}

#[test]
fn a_key_of_a_revoked_lease_is_gone_at_once() {
    let (writes, lease) = leased(Some(6 * SECOND), Some(6 * SECOND));
    let wrong = |began, found| wrong(&writes, &look(began, 9 * SECOND, found), &lease, &[]);
    assert!(wrong(6 * SECOND + 1, Found::Value(1)) && wrong(6 * SECOND + 1, Found::Something));
    assert!(!wrong(6 * SECOND - 1, Found::Value(1)));
    assert!(!wrong(6 * SECOND + 1, Found::Nothing));
}

#[test]
fn a_key_of_a_dropped_lease_goes() {
    let (writes, lease) = leased(Some(6 * SECOND), None);
    let wrong = |began, found, blows: &[Blow]| wrong(&writes, &look(began, began + 9, found), &lease, blows);
    assert!(wrong(8 * SECOND, Found::Value(1), &[]));
    assert!(!wrong(7 * SECOND, Found::Value(1), &[]));
    // A renewal was under way.
    let frozen = [blow(Stroke::Freeze, 5 * SECOND, 7 * SECOND)];
    assert!(!wrong(8 * SECOND, Found::Value(1), &frozen));
    assert!(wrong(9 * SECOND, Found::Value(1), &frozen));
    assert!(wrong(8 * SECOND, Found::Value(1), &[blow(Stroke::Freeze, SECOND, 2 * SECOND)]));
}

#[test]
fn a_key_that_left_its_lease_stays() {
    let ([first], lease) = leased(Some(6 * SECOND), Some(6 * SECOND));
    let writes = [first, write(2, Life::Forever, 30, 40)];
    let wrong = |found| wrong(&writes, &look(8 * SECOND, 9 * SECOND, found), &lease, &[]);
    assert!(wrong(Found::Nothing) && !wrong(Found::Value(2)));
}

/// Returns what is said of a lease of a second that was last seen to be held at 5 s, and to be over
/// at `lost`, where it was; it was revoked in 10 ms from `began` on, when its handle said that it
/// lives until `lives`.
fn revoked(lost: Option<u64>, began: u64, lives: u64, was_alive: bool, blows: &[Blow]) -> Vec<Violation> {
    let ended = began + 10_000;
    let revocation = Some(Revocation { began, ended, lives, was_alive });
    let (dropped, revoked) = (Some(lost.unwrap_or(ended)), Some(ended));
    let lease = Lease { ttl: SECOND, held: 5 * SECOND, dropped, revoked, revocation };
    revocations(&[Lease::default(), lease], &times(blows))
}

fn says(wrong: &[Violation], what: &str) {
    assert_eq!(wrong.len(), 1, "{wrong:?}");
    assert!(wrong[0].what.contains(what), "{wrong:?}");
}

#[test]
fn a_revocation_that_tells_what_was_is_not_blamed() {
    let none = |wrong: Vec<Violation>| assert!(wrong.is_empty(), "{wrong:?}");
    none(revoked(None, 6 * SECOND, 7 * SECOND, true, &[]));
    none(revoked(Some(6 * SECOND), 8 * SECOND, 0, false, &[]));
    // Its handle takes it for over, and the server may end it later, or sooner.
    none(revoked(Some(6 * SECOND), 7 * SECOND, 0, true, &[]));
    none(revoked(Some(6 * SECOND), 6 * SECOND + 1, 0, false, &[]));
    // It ended while it was revoked.
    none(revoked(None, 6 * SECOND, 6 * SECOND + 9_000, false, &[]));
    // Nobody knows.
    let unknown = Lease { dropped: Some(1), ..Lease::default() };
    none(revocations(&[unknown], &times(&[])));
}

#[test]
fn a_revocation_that_says_of_a_living_lease_that_it_was_over_is_seen() {
    says(&revoked(None, 6 * SECOND, 7 * SECOND, false, &[]), "says that it was over, with 990ms left");
}

#[test]
fn a_revocation_that_says_of_a_lease_that_is_over_that_it_was_alive_is_seen() {
    let late = |blows: &[Blow]| revoked(Some(6 * SECOND), 8 * SECOND, 0, true, blows);
    says(&late(&[]), "the lease 1 says that it was alive");
    // A renewal was under way, or the server did not do its work.
    assert!(late(&[blow(Stroke::Freeze, 5 * SECOND, 7 * SECOND)]).is_empty());
    assert!(late(&[blow(Stroke::Kill, 5 * SECOND, 7 * SECOND)]).is_empty());
    says(&late(&[blow(Stroke::Freeze, SECOND, 2 * SECOND)]), "says that it was alive");
}

#[test]
fn what_stays_is_read_once() {
    let times = times(&[]);
    let writes =
        vec![write(2, Life::Forever, 1, 2), brief(), Write { ended: None, ..write(0, Life::Gone, 30, 0) }];
    let history = History { writes, looks: vec![] };
    let is_final = |found, at| times.is_final(&history, &[], found, at);
    assert!(is_final(Found::Nothing, 50) && is_final(Found::Value(2), 50) && is_final(Found::Value(7), 50));
    assert!(!is_final(Found::Value(1), 50), "it goes");
    assert!(is_final(Found::Value(1), 2 * SECOND), "it is late");
}
