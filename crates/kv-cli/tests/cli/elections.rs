//! `elect` beside programs that use the library's recipe.

use crate::program::Place;

#[test]
fn what_the_leader_said_is_in_the_record_of_the_election() {
    let place = Place::redb();
    let arguments = ["elect", "app/leader", "--candidate", "host-7", "--value", "10.0.0.7:80", "--"];
    let token = place.run(&[&arguments[..], &["sh", "-c", "echo $KV_LOCK_TOKEN"]].concat()).out;
    let record = place.ok(&["get", "app/leader/leader"]);
    let (line, value) = record.split_once('\n').unwrap();
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!((&*line["term"].to_string(), &line["candidate"]), (token.trim_end(), &"host-7".into()));
    assert_eq!(value, "10.0.0.7:80");
    for wrong in [
        &["elect", "a", "--observe", "--", "true"][..],
        &["elect", "a", "--observe", "--value", "1"],
        &["elect", "a", "--observe", "--candidate", "1"],
    ] {
        assert_eq!(place.run(wrong).code, 2, "{wrong:?}");
    }
}

#[cfg(feature = "redis")]
#[tokio::test(flavor = "multi_thread")]
async fn programs_of_the_recipe_and_the_program_see_one_election() {
    use crate::{
        program::{end, line},
        redis::Redis,
    };
    use kv_recipes::Election;
    use rustix::process::{Pid, Signal, kill_process};

    let redis = Redis::start().await;
    let place = Place::at(&redis.url(""));
    let mut sees = place.command(&["elect", "leader", "--observe"]).spawn().unwrap();
    assert_eq!(line(&mut sees), "vacant");
    let arguments = ["elect", "leader", "--candidate", "host-7", "--value", "10.0.0.7:80"];
    let mut elect = place.command(&arguments).spawn().unwrap();
    let elected = line(&mut elect);
    let token = elected.strip_prefix("elected\t").unwrap();
    assert_eq!(line(&mut sees), format!("leader\t{token}\thost-7\t10.0.0.7:80"));

    let kv = kv_redis::open(&redis.url("")).await.unwrap();
    let election = Election::new(&kv, "leader").candidate("program").value("here");
    let leader = election.leader().await.unwrap().unwrap();
    let seen = (leader.term.to_string(), &*leader.candidate, &*leader.value);
    assert_eq!(seen, (token.to_owned(), "host-7", &b"10.0.0.7:80"[..]));
    let campaigns = tokio::spawn(async move { election.campaign().await });
    kill_process(Pid::from_child(&elect), Signal::TERM).unwrap();
    assert_eq!(end(elect).code, 143);
    let term = campaigns.await.unwrap().unwrap();
    let mut told = line(&mut sees);
    if told == "vacant" {
        told = line(&mut sees);
    }
    assert_eq!(told, format!("leader\t{}\tprogram\there", term.number()));
    let observed = place.command(&["elect", "leader", "--observe", "--json"]).spawn();
    let mut observed = observed.unwrap();
    let object = format!(
        "{{\"v\":1,\"event\":\"leader\",\"name\":\"leader\",\"token\":{},\"candidate\":\"program\",\"value\":\"here\"}}",
        term.number()
    );
    assert_eq!(line(&mut observed), object);
    kv.close().await.unwrap();
    for mut observes in [sees, observed] {
        assert!(line(&mut observes).contains("vacant"));
        kill_process(Pid::from_child(&observes), Signal::TERM).unwrap();
        end(observes);
    }
}
