//! `config status`.

use crate::program::Place;

#[test]
fn the_processes_are_counted_by_what_they_run() {
    let place = Place::redb();
    place.table(&[(&["config", "status", "app/status"], 1, "0 processes\n")]);
    for name in ["a", "b"] {
        place.ok(&["put", &format!("app/status/{name}"), r#"{"v":1,"runs":"17","from":"store"}"#]);
    }
    let object = "{\"v\":1,\"processes\":2,\"generations\":{\"17\":2},\"rejecting\":0,\"unreadable\":0}\n";
    place.table(&[
        (&["config", "status", "app/status"], 0, "2 processes: 2 run 17\n"),
        (&["config", "status", "app/status", "--json"], 0, object),
    ]);
    let rejects = r#"{"v":1,"runs":"16","from":"file","rejects":{"generation":"17","why":"a\nb"}}"#;
    place.ok(&["put", "app/status/c", rejects]);
    place.ok(&["put", "app/status/d", "nonsense"]);
    let told = "3 processes: 2 run 17, 1 runs 16; 1 rejects 17: a\\nb; 1 key is no report\n";
    let all = "a\t17\nb\t17\nc\t16, not from the store\trejects 17: a\\nb\n";
    let objects = "\
{\"v\":1,\"name\":\"a\",\"runs\":\"17\",\"from\":\"store\",\"rejects\":null}
{\"v\":1,\"name\":\"b\",\"runs\":\"17\",\"from\":\"store\",\"rejects\":null}
{\"v\":1,\"name\":\"c\",\"runs\":\"16\",\"from\":\"file\",\"rejects\":\"17\",\"why\":\"a\\nb\"}
{\"v\":1,\"processes\":3,\"generations\":{\"16\":1,\"17\":2},\"rejecting\":1,\"unreadable\":1}
";
    place.table(&[
        (&["config", "status", "app/status"], 1, told),
        (&["config", "status", "app/status", "-v"], 1, &format!("{all}{told}")),
        (&["config", "status", "app/status", "-v", "--json"], 1, objects),
        (&["config", "status"], 2, ""),
        (&["config"], 2, ""),
    ]);
}
