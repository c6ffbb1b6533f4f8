//! Makes the store's own nodes, and makes them anew where they were deleted.

use super::known::INCARNATE;
use crate::{
    client::{
        attempts::Attempts,
        multi::{Ask, Got, request},
        node::OWNED,
        via::Via,
    },
    core::Core,
    error::{Answer, Problem},
    names::slot::{SLOTS, found},
};
use kv_core::{
    Error, ErrorKind, Result,
    backend::{retry::RetrySafety, unique},
    driver::Deadline,
};
use zookeeper_client::{CreateMode, Error as ClientError};

/// The nodes that count creations, as they were found.
struct Counts {
    slots: [bool; SLOTS],
    incarnations: Vec<u128>,
}

/// Returns a name of an incarnation that was never given before.
pub(super) fn never_before() -> u128 {
    u128::from(unique()) << 64 | u128::from(unique())
}

/// Makes the store's own nodes that are not there, and the nodes above them. Others may make them
/// at the same time. An incarnation that the server does `not` have as it was made came by a copy
/// of the tree, and is replaced.
pub(crate) async fn prepare(core: &Core, not: Option<u128>, deadline: Deadline) -> Result<()> {
    let mut attempts = Attempts::default();
    loop {
        let counts = match look(core, deadline).await? {
            Some(counts) => counts,
            None => {
                let roots: Vec<_> = core.names.roots().map(str::to_owned).collect();
                make_each(core, &roots, &[], deadline).await?;
                make_each(core, &core.names.areas(), OWNED, deadline).await?;
                Counts { slots: [false; SLOTS], incarnations: Vec::new() }
            }
        };
        let valid = counts.incarnations.iter().copied().find(|&found| Some(found) != not);
        if valid.is_some() && !counts.slots.contains(&false) {
            core.own.are_there(valid);
            return Ok(());
        }
        if let Some(incarnation) = begin(core, &counts, deadline).await? {
            core.own.are_there(Some(incarnation));
            return Ok(());
        }
        if deadline.has_passed() {
            let why = format!("others made and deleted the store's own nodes all the time within {deadline}");
            return Err(Error::new(ErrorKind::Timeout, why));
        }
        attempts.pause(deadline).await;
    }
}

/// Looks which of the nodes are there; returns `None` where one is missing that others lie below.
async fn look(core: &Core, deadline: Deadline) -> Result<Option<Counts>> {
    let asks = &[Ask::Children(core.names.area("epoch")), Ask::Data(core.names.area("lock"))];
    let got = Via::Any(&core.client).call(RetrySafety::Read, deadline, |connection| async move {
        let barrier = connection.barrier().await;
        let got = request(&connection, asks);
        barrier.await?;
        Ok::<_, Problem>(got.await?)
    });
    Ok(match &*got.await?.map_err(Answer::unexpected)? {
        [Got::Children(names), Got::Data(..)] => {
            let (slots, incarnations) = found(names);
            Some(Counts { slots, incarnations })
        }
        _ => None,
    })
}

/// Makes the slots that are missing, and in the same step a new incarnation of all counts in place
/// of those that are there. Returns `None` where others came first.
async fn begin(core: &Core, counts: &Counts, deadline: Deadline) -> Result<Option<u128>> {
    let (names, incarnation) = (&core.names, never_before());
    let begun = Via::Any(&core.client).call(RetrySafety::Repeatable, deadline, |connection| async move {
        let create = core.client.options.create(CreateMode::Persistent);
        let mut writer = connection.session.new_multi_writer();
        for old in &counts.incarnations {
            writer.add_delete(&names.incarnation(*old), None)?;
        }
        for slot in (0..SLOTS).filter(|&slot| !counts.slots[slot]) {
            writer.add_create(&names.slot_node(slot), OWNED, &create)?;
        }
        let path = names.incarnation(incarnation);
        writer.add_create(&path, OWNED, &create)?;
        for _ in 0..INCARNATE {
            writer.add_set_data(&path, OWNED, None)?;
        }
        writer.commit().await?;
        Ok::<_, Problem>(())
    });
    Ok(begun.await?.is_ok().then_some(incarnation))
}

/// Makes nodes with this data, each by a request of its own, sent one behind the other without
/// waiting.
async fn make_each(core: &Core, paths: &[String], data: &[u8], deadline: Deadline) -> Result<()> {
    let create = core.client.options.create(CreateMode::Persistent);
    let made = Via::Any(&core.client).call(RetrySafety::Repeatable, deadline, |connection| {
        let create = create.clone();
        async move {
            let asked: Vec<_> =
                paths.iter().map(|path| connection.session.create(path, data, &create)).collect();
            for answer in asked {
                are_there(answer.await.map(drop).map_err(Problem::from))?;
            }
            Ok(())
        }
    });
    made.await?.map_err(Answer::unexpected)
}

/// Takes it for success that the node exists already, or that its parent is gone: it is made when
/// it is needed again.
pub(super) fn are_there(made: Result<(), Problem>) -> Result<(), Problem> {
    match made {
        Err(Problem { error: ClientError::NodeExists | ClientError::NoNode, .. }) => Ok(()),
        made => made,
    }
}
