//! `run`.

use crate::program::Place;

#[test]
fn a_directory_is_an_environment() {
    let place = Place::redb();
    place.ok(&["put", "app/db/url", "here"]);
    place.ok(&["put", "app/n", "a b"]);
    place.ok(&["put", "other", "x"]);
    let script = "echo \"$DB_URL|$N|${OTHER-none}\"; exit 3";
    let ended = place.run(&["run", "--env", "app", "--", "sh", "-c", script]);
    assert_eq!((ended.code, &*ended.out, &*ended.err), (3, "here|a b|none\n", ""));
    assert_eq!(place.run(&["run", "--env", "app", "--", "no-such-command"]).code, 127);
    assert_eq!(place.run(&["run", "--", "true"]).code, 2);

    place.ok(&["put", "app/N", "2"]);
    let twice = place.run(&["run", "--env", "app", "--", "true"]);
    let why = "kv: the keys \"N\" and \"n\" are both the variable N; rename one\n";
    assert_eq!((twice.code, &*twice.err), (4, why));
}

#[cfg(feature = "redis")]
#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_restarted_or_told_when_its_environment_changes() {
    use crate::{
        program::{end, line},
        redis::Redis,
    };
    use rustix::process::{Pid, Signal, kill_process};

    let redis = Redis::start().await;
    let place = Place::at(&redis.url(""));
    for (change, script, then) in [
        ("restart", "echo ${A-none}; exec sleep 100", "none"),
        ("hup", "trap 'echo told' HUP; echo ${A-none}; while :; do sleep 0.02; done", "told"),
    ] {
        place.ok(&["put", "app/a", "1"]);
        let arguments =
            ["run", "-e", "app", "--on-change", change, "--quiet", "50ms", "--", "sh", "-c", script];
        let mut run = place.command(&arguments).spawn().unwrap();
        assert_eq!(line(&mut run), "1", "{change}");
        place.ok(&["delete", "app/a"]);
        assert_eq!(line(&mut run), then, "{change}");
        kill_process(Pid::from_child(&run), Signal::TERM).unwrap();
        assert_eq!(end(run).code, 143, "{change}");
    }
}
