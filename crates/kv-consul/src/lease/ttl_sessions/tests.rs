use super::*;
use std::{
    sync::{Weak, mpsc},
    thread,
};
use tokio::runtime::Builder;

const LONG: Duration = Duration::from_secs(60);

/// Tells, when it is dropped, whether another thread can lock the table meanwhile.
struct Probe(Weak<Mutex<Table>>, mpsc::Sender<bool>);

impl Drop for Probe {
    fn drop(&mut self) {
        let Some(table) = self.0.upgrade() else { return };
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            drop(table.lock());
            let _ = tell.send(());
        });
        let _ = self.1.send(told.recv_timeout(Duration::from_secs(5)).is_ok());
    }
}

/// Makes a session whose end is dropped with it, since there is no runtime that would do it.
fn session(sessions: &TtlSessions, ttl: Duration, free: &mpsc::Sender<bool>) -> Arc<TtlSession> {
    let probe = Probe(Arc::downgrade(&sessions.0), free.clone());
    Arc::new(TtlSession {
        id: "s".into(),
        ttl,
        at: Clock::system().now(),
        keys: AtomicUsize::new(0),
        end: Mutex::new(Undo::new(async move {
            drop(probe);
            Ok(true)
        })),
        retires: Mutex::default(),
    })
}

#[test]
fn a_deletion_has_what_was_written_last() {
    let (sessions, (free, _)) = (TtlSessions::default(), mpsc::channel());
    let session = session(&sessions, LONG, &free);
    for (at, name) in (1..).zip(["a", "a/", "a/b", "a/"]) {
        session.used();
        sessions.wrote(name, at, Some(&session));
    }
    let before = |name: &str| sessions.before(name).map(|(name, at)| format!("{name} at {at}"));
    assert_eq!(before("a/b").as_deref(), Some("a/b at 3"));
    assert_eq!(before("a/").as_deref(), Some("a/ at 4"));
    assert_eq!(before("a/c"), None);
}

#[test]
fn a_session_that_is_taken_out_is_dropped_outside_of_the_lock() {
    let (sessions, (free, was_free)) = (TtlSessions::default(), mpsc::channel());
    let runtime = Builder::new_current_thread().build().unwrap().handle().id();
    let made = |ttl| session(&sessions, ttl, &free);
    let put = |name: &str, at, session: Arc<TtlSession>| {
        session.used();
        sessions.wrote(name, at, Some(&session));
    };
    let dropped = |what: &str| assert_eq!(was_free.try_recv(), Ok(true), "{what}");

    let past = made(Duration::ZERO);
    while !past.is_past(Duration::ZERO) {}
    assert!(sessions.slot_of((runtime, Duration::ZERO)).set(past).is_ok());
    assert!(sessions.slot_of((runtime, Duration::ZERO)).get().is_none());
    dropped("a session that is given to no further put");
    assert!(sessions.slot_of((runtime, LONG)).set(made(LONG)).is_ok());
    sessions.is_over(&made(LONG));
    dropped("a session that the server ended");
    dropped("the one that says so");

    put("a", 1, made(LONG));
    put("a", 2, made(LONG));
    dropped("the session of a key that is written again");
    sessions.wrote("a", 3, None);
    dropped("the session of a key that is made permanent");
    put("a", 4, made(LONG));
    sessions.deleted(sessions.before("a").into_iter().collect());
    dropped("the session of a key that is deleted");
    let past = made(Duration::ZERO);
    while !past.is_past(Duration::ZERO) {}
    put("past", 5, past);
    sessions.0.lock().look_at = 0;
    put("b", 6, made(LONG));
    dropped("the session of a key that is over");
    assert!(was_free.try_recv().is_err());
}
