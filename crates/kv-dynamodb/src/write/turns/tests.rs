use super::{
    TurnOf::{Deletes, Puts},
    *,
};
use futures::FutureExt;

async fn turn(turns: &Arc<Turns>, writes: &[(&str, TurnOf)]) -> Turn {
    let writes: Vec<_> = writes.iter().map(|(key, what)| (Key::parse(key).expect("a key"), *what)).collect();
    let deadline = Deadline::after(Duration::from_secs(60));
    Turn::of(turns, writes.iter().map(|(key, what)| (key, *what)), deadline).await
}

#[tokio::test]
async fn a_deletion_waits_for_puts_and_they_for_it() {
    let turns = Arc::default();
    let (one, two) = (turn(&turns, &[("a", Puts)]).await, turn(&turns, &[("a", Puts), ("b", Puts)]).await);
    let mut deletion = Box::pin(turn(&turns, &[("a", Deletes)]));
    drop(one);
    assert!(deletion.as_mut().now_or_never().is_none());
    let mut put = Box::pin(turn(&turns, &[("a", Puts)]));
    assert!(put.as_mut().now_or_never().is_none());
    drop(two);
    let deletion = deletion.await;
    assert!(put.as_mut().now_or_never().is_none());
    drop(deletion);
    put.await;
}

#[tokio::test]
async fn other_keys_and_other_stores_do_not_wait() {
    let (turns, others) = (Arc::default(), Arc::default());
    let _deletion = turn(&turns, &[("a", Deletes), ("b", Deletes), ("a", Puts)]).await;
    assert!(turn(&turns, &[("c", Deletes)]).now_or_never().is_some());
    assert!(turn(&others, &[("a", Deletes)]).now_or_never().is_some());
    assert!(turn(&turns, &[("b", Puts)]).now_or_never().is_none());
}

/// Tells whether so much time has passed, and hardly more.
fn are_past(began: Instant, time: Duration) -> bool {
    (time..time + PATIENCE / 10).contains(&began.elapsed())
}

#[tokio::test(start_paused = true)]
async fn what_hangs_holds_up_others_once() {
    let (turns, began) = (Arc::<Turns>::default(), Instant::now());
    let hangs = turn(&turns, &[("a", Puts)]).await;
    tokio::time::sleep(PATIENCE / 2).await;
    let store = &turns;
    let waits = [Deletes, Puts, Deletes].map(|what| async move {
        let got = turn(store, &[("a", what)]).await;
        assert!(got.0.iter().all(|key| key.held.is_some()));
    });
    futures::future::join_all(waits).await;
    assert!(are_past(began, PATIENCE), "{:?}", began.elapsed());
    for what in [Deletes, Puts, Deletes] {
        drop(turn(&turns, &[("a", what)]).await);
    }
    assert!(are_past(began, PATIENCE), "{:?}", began.elapsed());
    drop(hangs);
    assert!(turns.busy().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_put_that_came_behind_one_that_hangs_has_its_time() {
    let (turns, began) = (Arc::<Turns>::default(), Instant::now());
    let hangs = turn(&turns, &[("a", Puts)]).await;
    tokio::time::sleep(PATIENCE - PATIENCE / 20).await;
    let put = turn(&turns, &[("a", Puts)]).await;
    let deletes = async {
        drop(turn(&turns, &[("a", Deletes)]).await);
        assert!(are_past(began, PATIENCE + PATIENCE / 4), "{:?}", began.elapsed());
    };
    let ends = async {
        tokio::time::sleep(PATIENCE / 4 + PATIENCE / 20).await;
        drop((put, hangs));
    };
    futures::future::join(deletes, ends).await;
    assert!(turns.busy().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_write_of_several_keys_has_its_time_behind_the_wait_for_the_last() {
    let turns = Arc::<Turns>::default();
    let mut keys = ["a", "b"];
    keys.sort_unstable_by_key(|key| turns.hasher.hash_one(*key));
    let hangs = turn(&turns, &[(keys[1], Deletes)]).await;
    let both = turn(&turns, &[(keys[0], Puts), (keys[1], Puts)]).await;
    let began = Instant::now();
    drop(turn(&turns, &[(keys[0], Deletes)]).await);
    assert!(are_past(began, PATIENCE), "{:?}", began.elapsed());
    drop((hangs, both));
    assert!(turns.busy().is_empty());
}

#[tokio::test(start_paused = true)]
async fn who_is_in_line_and_not_polled_holds_up_others_once() {
    let turns = Arc::<Turns>::default();
    let first = turn(&turns, &[("a", Puts)]).await;
    let mut unpolled = Box::pin(turn(&turns, &[("a", Deletes)]));
    assert!(unpolled.as_mut().now_or_never().is_none());
    drop(first);
    let began = Instant::now();
    drop(turn(&turns, &[("a", Puts)]).await);
    let held = turn(&turns, &[("a", Deletes)]).await;
    assert!(are_past(began, PATIENCE), "{:?}", began.elapsed());
    assert!(unpolled.as_mut().now_or_never().is_none(), "it is behind those who came later");
    drop(held);
    assert!(unpolled.await.0.iter().all(|key| key.held.is_some()));
    assert!(turns.busy().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_short_deadline_leaves_nobody_behind() {
    let (turns, began) = (Arc::<Turns>::default(), Instant::now());
    let key = Key::parse("a").expect("a key");
    let put = turn(&turns, &[("a", Puts)]).await;
    let short = Deadline::after(PATIENCE / 10);
    let deletion = Turn::of(&turns, [(&key, Deletes)], short).await;
    assert!(deletion.0.iter().all(|key| key.held.is_none()) && began.elapsed() < PATIENCE / 10);
    assert!(turn(&turns, &[("a", Deletes)]).now_or_never().is_none());
    drop(put);
}

#[tokio::test]
async fn nothing_is_kept_of_what_is_over() {
    let turns = Arc::<Turns>::default();
    let put = turn(&turns, &[("a", Puts)]).await;
    drop(Box::pin(turn(&turns, &[("a", Deletes)])).as_mut().now_or_never());
    assert_eq!(turns.busy().len(), 1);
    drop(put);
    assert!(turns.busy().is_empty());
}
