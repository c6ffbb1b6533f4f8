//! The runner itself: what a case does never takes another down, and never goes unseen.

use futures::future::BoxFuture;
use kv_core::{Bytes, Error, ErrorKind, Kv, driver::async_trait};
use kv_memory::Config;
use kv_testsuite::{Case, Ended, Harness, Options, Outcome, Server, Trial, Verdict, matrix, run};
use std::{
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

/// A store in memory with a server that only notes what is asked of it.
#[derive(Default)]
struct Fake {
    name: &'static str,
    closed: bool,
    left: Option<&'static str>,
    server: Arc<Noted>,
}

#[derive(Default)]
struct Noted(Mutex<Vec<&'static str>>);

impl Noted {
    fn note(&self, what: &'static str) {
        self.0.lock().unwrap().push(what);
    }
}

#[async_trait]
impl Harness for Fake {
    fn name(&self) -> String {
        "fake".into()
    }
    async fn open(&self, prefix: &str) -> kv_core::Result<Kv> {
        if self.closed {
            return Err(Error::new(ErrorKind::Unavailable, "nobody listens at 127.0.0.1:1"));
        }
        Config::new().name(self.name).prefix(prefix).open().await
    }
    fn server(&self) -> Option<Arc<dyn Server>> {
        Some(self.server.clone())
    }
    fn excused(&self, case: &str, _: &kv_core::Capabilities) -> Option<String> {
        (case == "fake/excused").then(|| "its server has a bug".into())
    }
    async fn leftovers(&self, _: &str) -> Vec<String> {
        self.left.iter().map(|left| (*left).to_owned()).collect()
    }
}

#[async_trait]
impl Server for Noted {
    async fn stop(&self) {
        self.note("stop");
    }
    async fn kill(&self) {
        self.note("kill");
    }
    async fn start(&self) {
        self.note("start");
    }
    async fn pause(&self) {
        self.note("pause");
    }
    async fn resume(&self) {
        self.note("resume");
    }
}

fn case(name: &'static str, run: fn(Trial) -> BoxFuture<'static, Verdict>) -> Case {
    Case { name, promise: "…", takes_server: name == "fake/server", run }
}

fn quick() -> Options {
    Options::default().patience(Duration::from_millis(200)).limit(Duration::from_secs(30))
}

async fn outcome(
    fake: Fake,
    name: &'static str,
    case_run: fn(Trial) -> BoxFuture<'static, Verdict>,
) -> Outcome {
    let report = run(Arc::new(fake), &[case(name, case_run)], &quick()).await.unwrap();
    report.outcome(name).unwrap().clone()
}

fn broken(outcome: Outcome) -> String {
    match outcome {
        Outcome::Broken(why) => why,
        other => panic!("expected a broken promise, found {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_end_is_seen_and_disturbs_no_other() {
    let cases = [
        case("fake/kept", |_| Box::pin(async { Ok(Ended::Kept) })),
        case("fake/ignored", |_| Box::pin(async { Ended::ignored("for a reason") })),
        case("fake/error", |_| Box::pin(async { Err("found 3".into()) })),
        case("fake/panic", |_| Box::pin(async { panic!("at {}", "the disco") })),
        case("fake/stuck", |t| {
            Box::pin(async move {
                t.note("Godot");
                std::future::pending().await
            })
        }),
        case("fake/excused", |_| Box::pin(async { panic!("it must not run") })),
        case("fake/kept-too", |_| Box::pin(async { Ok(Ended::Kept) })),
    ];
    // One of them is stuck until then.
    let options = quick().limit(Duration::from_secs(5));
    let report = run(Arc::new(Fake { name: "ends", ..Fake::default() }), &cases, &options).await.unwrap();
    let ends: Vec<_> = report.results.iter().map(|(case, outcome)| (case.name, outcome.clone())).collect();
    assert_eq!(ends[0].1, Outcome::Kept);
    assert_eq!(ends[1].1, Outcome::Ignored("for a reason".into()));
    assert_eq!(ends[2].1, Outcome::Broken("found 3".into()));
    assert_eq!(ends[3].1, Outcome::Broken("panicked: at the disco".into()));
    let stuck = broken(ends[4].1.clone());
    assert!(stuck.contains("stuck") && stuck.contains("Godot"), "{stuck}");
    assert_eq!(ends[5].1, Outcome::Ignored("its server has a bug".into()));
    assert_eq!(ends[6].1, Outcome::Kept);
    assert_eq!(report.broken().count(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_come_is_named() {
    let fake = Fake { name: "soon", ..Fake::default() };
    let never = outcome(fake, "fake/soon", |t| {
        Box::pin(async move {
            t.soon("the second coming", std::future::pending::<()>()).await?;
            Ok(Ended::Kept)
        })
    });
    let why = broken(never.await);
    assert!(why.contains("in vain for the second coming"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_cleaned_up_and_leftovers_are_a_failure() {
    let all = Config::new().name("cleaned").open().await.unwrap();
    let write: fn(Trial) -> BoxFuture<'static, Verdict> = |t| {
        Box::pin(async move {
            t.open().await?.put("a/b", Bytes::new()).await?;
            t.open_elsewhere().await?.put("c", Bytes::new()).await?;
            Err("and it fails".into())
        })
    };
    assert_eq!(
        broken(outcome(Fake { name: "cleaned", ..Fake::default() }, "fake/w", write).await),
        "and it fails"
    );
    assert_eq!(all.list("").await.unwrap(), []);
    let left = Fake { name: "cleaned", left: Some("session 7"), ..Fake::default() };
    let why = broken(outcome(left, "fake/left", |_| Box::pin(async { Ok(Ended::Kept) })).await);
    assert!(why.contains("session 7"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_cannot_be_opened_is_no_green_run() {
    let fake = Arc::new(Fake { closed: true, ..Fake::default() });
    let e =
        run(fake, &[case("fake/kept", |_| Box::pin(async { Ok(Ended::Kept) }))], &quick()).await.unwrap_err();
    assert!(e.to_string().contains("127.0.0.1:1"), "{e}");
}

static RUNNING: AtomicUsize = AtomicUsize::new(0);
static ALONE: AtomicBool = AtomicBool::new(true);

fn beside(t: Trial) -> BoxFuture<'static, Verdict> {
    Box::pin(async move {
        RUNNING.fetch_add(1, Ordering::SeqCst);
        t.open().await?.put("k", "").await?;
        tokio::task::yield_now().await;
        RUNNING.fetch_sub(1, Ordering::SeqCst);
        Ok(Ended::Kept)
    })
}

fn takes_the_server(t: Trial) -> BoxFuture<'static, Verdict> {
    Box::pin(async move {
        let server = t.server().ok_or("no server")?;
        let again = t.server().ok_or("no server the second time")?;
        for server in [server, again] {
            server.stop().await;
            for _ in 0..50 {
                tokio::task::yield_now().await;
                if RUNNING.load(Ordering::SeqCst) > 0 {
                    ALONE.store(false, Ordering::SeqCst);
                }
            }
        }
        Err("it fails with the server down".into())
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_the_server_is_alone_and_the_server_is_put_right() {
    let fake = Fake { name: "alone", ..Fake::default() };
    let server = fake.server.clone();
    let mut cases = vec![case("fake/beside", beside); 30];
    cases.insert(10, case("fake/server", takes_the_server));
    let report = run(Arc::new(fake), &cases, &quick()).await.unwrap();
    assert!(ALONE.load(Ordering::SeqCst), "another case ran while the server was away");
    assert_eq!(report.broken().collect::<Vec<_>>(), [("fake/server", "it fails with the server down")]);
    assert_eq!(*server.0.lock().unwrap(), ["stop", "stop", "start"]);
}

#[test]
fn every_case_has_a_name_of_its_own_a_clause_and_a_promise() {
    let mut names: Vec<_> = kv_testsuite::cases::all().iter().map(|case| case.name).collect();
    for case in kv_testsuite::cases::all() {
        assert!(!case.promise.is_empty() && !case.clause().is_empty(), "{case:?}");
        assert!(case.name.chars().all(|c| c.is_ascii_alphanumeric() || "._-/".contains(c)), "{case:?}");
    }
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all, "two cases have one name");
}

/// Checks the program that makes the docs' tables: what it writes, and that it sees what is not up
/// to date.
#[tokio::test(flavor = "multi_thread")]
async fn the_matrix_is_written_and_checked() {
    let root =
        std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("matrix-{}", std::process::id()));
    let results = root.join("results");
    std::fs::create_dir_all(&results).unwrap();
    let readme = "# x\n<!-- backends:begin -->\nold\n<!-- backends:end -->\nrest\n";
    std::fs::write(root.join("README.md"), readme).unwrap();
    let program = |arguments: &[&str]| {
        let mut program = Command::new(env!("CARGO_BIN_EXE_kv-matrix"));
        program.args(arguments).arg(&root).env("KV_MATRIX_DIR", &results).output().unwrap()
    };
    assert!(!program(&[]).status.success(), "no results, no tables");

    let mut cases = vec![case("key.refused/names", |_| Box::pin(async { Ok(Ended::Kept) }))];
    cases.push(case("transact/commit", |_| Box::pin(async { Ended::ignored("none | at all") })));
    let report = run(Arc::new(Fake { name: "matrix", ..Fake::default() }), &cases, &quick()).await.unwrap();
    let column = matrix::Column::from(&report);
    column.save(&results).unwrap();
    assert_eq!(matrix::load(&results).unwrap(), [column]);

    assert!(!program(&["--check"]).status.success(), "nothing was made yet");
    assert!(program(&[]).status.success());
    let page = std::fs::read_to_string(root.join("docs/compatibility.md")).unwrap();
    assert!(
        page.contains("| [`key.refused`](contract.md#keyrefused) | ") && page.contains("- none | at all\n"),
        "{page}"
    );
    let contract = std::fs::read_to_string(root.join("docs/contract.md")).unwrap();
    assert!(contract.contains("### key.refused\n\n- "), "{contract}");
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    assert!(
        readme.starts_with("# x\n") && readme.ends_with("-->\nrest\n") && readme.contains("| fake |"),
        "{readme}"
    );
    assert!(program(&["--check"]).status.success());
    std::fs::write(root.join("docs/compatibility.md"), "old").unwrap();
    let check = program(&["--check"]);
    assert!(!check.status.success());
    assert!(String::from_utf8_lossy(&check.stderr).contains("docs/compatibility.md"));
    std::fs::remove_dir_all(&root).unwrap();
}
