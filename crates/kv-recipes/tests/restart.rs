//! Recipes whose state survives the end of the store: a file that is closed and opened again.

use kv_core::{Error, Kv, Result};
use kv_recipes::{
    Barrier, Counter, Effects, Election, IdBlocks, Once, Ran, Registration, Semaphore, Service,
};
use std::path::Path;

async fn open(file: &Path) -> Result<Kv> {
    kv_redb::Config::new(file).open().await
}

#[tokio::test]
async fn what_is_over_does_not_begin_again() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.redb");
    let (mut term, mut token, mut next_id) = (0, 0, 0);
    for round in 0..4_i64 {
        let kv = open(&file).await?;
        let put = |effects: Effects| {
            let put = kv.put("made", format!("in round {round}"));
            async move { Ok::<_, Error>(effects.then(put)) }
        };
        let ran = Once::new(&kv, "once").run(put).await?;
        assert_eq!(ran, if round == 0 { Ran::Now } else { Ran::Before });
        assert_eq!(kv.get("made").await?.unwrap().text(), Some("in round 0"));

        assert_eq!(Counter::new(&kv, "hits").add(1).await?, round + 1);
        let id = IdBlocks::new(&kv, "ids").next().await?;
        assert!(id > next_id, "an id of before: {id}");
        next_id = id;

        let barrier = Barrier::new(&kv, "barrier");
        assert_eq!(barrier.is_raised().await?, round % 2 == 1);
        if round % 2 == 0 {
            barrier.raise().await?
        } else {
            barrier.lift().await?
        }

        let election = Election::new(&kv, "leader").candidate(format!("of round {round}"));
        assert!(election.leader().await?.is_none(), "closing has ended the term of before");
        let leads = election.campaign().await?;
        assert!(leads.number() > term, "terms grow over restarts");
        term = leads.number();
        assert_eq!(election.leader().await?.unwrap().candidate, format!("of round {round}"));

        let permit = Semaphore::new(&kv, "render", 1).acquire().await?;
        assert!(permit.token() > token);
        token = permit.token();

        let web: Service<i64> = Service::open(&kv, "web").await?;
        assert!(web.instances().is_empty(), "closing has taken the instance of before away");
        let _me = Registration::new(&kv, "web/1").json(&round).register().await?;
        web.synced_now().await?;
        assert_eq!(web.instances()[0].value, round);
        kv.close().await?;
    }
    Ok(())
}
