//! Listings and deletions of trees that break one promise.

use crate::{broken::Broken, fault::Fault, lock};
use kv_core::{driver::*, *};
use std::time::Duration;

pub(crate) async fn list(
    broken: &Broken,
    directory: &Directory,
    from: Option<&Cursor>,
    options: &ListOptions,
) -> Result<Page> {
    let mut asked = options.clone();
    match broken.fault {
        Fault::SiblingsAreListed if !directory.is_root() && from.is_none() => {
            let found = broken.below(directory).await?;
            let items = found
                .into_iter()
                .map(|e| if options.keys_only { Item::Key(e.key, e.version) } else { Item::Entry(e) });
            return Ok(Page { items: items.collect(), next: None });
        }
        Fault::CursorsLeadOutside if from.is_some() => {
            return broken.store().list(&Directory::root(), from, options).await;
        }
        Fault::LeavesOutInSilence => asked.left_out = NotesLeftOut::default(),
        Fault::ChildrenAreRecursive => asked.recursive = true,
        Fault::DeclaresOneMoment => {
            asked.limit = Some(asked.limit.unwrap_or(usize::MAX).min(10));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Fault::StartAfterIsIgnored => asked.start_after = None,
        Fault::KeysOnlyGivesOnlyTheFirst if options.keys_only => asked.limit = Some(1),
        Fault::MissingDirectoryIsAnError if from.is_none() && broken.all(directory).await?.is_empty() => {
            return Err(Error::new(ErrorKind::Other, "no such directory"));
        }
        _ => {}
    }
    let mut page = broken.store().list(directory, from, &asked).await?;
    if broken.fault == Fault::SkipsLongNames {
        page.items.retain(|item| item.position().start().len() <= 512);
    }
    for item in &mut page.items {
        match item {
            Item::Entry(entry) => *entry = broken.entry(entry.clone()),
            Item::Key(key, version) => *version = broken.shown(key, *version),
            Item::Directory(_) => {}
        }
    }
    match broken.fault {
        Fault::KeysOnlyGivesOnlyTheFirst if options.keys_only => page.next = None,
        Fault::ListsBackwards => page.items.reverse(),
        Fault::OrdersDirectoriesByName => page.items.sort_by_key(|i| match i.position() {
            Position::Key(key) => (key.to_string(), 0),
            Position::Directory(d) => (d.as_str().to_owned(), 1),
        }),
        Fault::ListsOnlyThePage => page.next = None,
        Fault::RepeatsAtPageBorders => {
            if page.next.is_some()
                && let Some(last) = page.items.last().cloned()
            {
                page.items.push(last);
            }
        }
        Fault::SkipsAtPageBorders if page.next.is_some() => drop(page.items.pop()),
        Fault::ListsItself if from.is_none() && !directory.is_root() => {
            let key = Key::parse(directory.as_str())?;
            if let Some(entry) = broken.store().get(&key, &options.read).await? {
                page.items.insert(0, Item::Entry(entry));
            }
        }
        Fault::DirectoriesAreKeys if options.recursive => {
            let items = std::mem::take(&mut page.items);
            let mut last = Directory::root();
            for item in items {
                if let Some(key) = item.key()
                    && key.parent() != last
                    && key.parent() != *directory
                {
                    last = key.parent();
                    let version = Version::new(1, 0);
                    page.items.push(Item::Entry(Entry::new(Key::parse(last.as_str())?, "", version)));
                }
                page.items.push(item);
            }
        }
        Fault::HidesForeignKeys => page.items.retain(|i| i.key().is_none_or(|key| !broken.hides(key))),
        Fault::HidesDirectories => page.items.retain(|i| !matches!(i, Item::Directory(_))),
        Fault::ListsInternals if from.is_none() && directory.is_root() => {
            let key = Key::parse("kv-internal/lock")?;
            page.items.push(Item::Entry(Entry::new(key, "", Version::new(1, 0))));
        }
        _ => {}
    }
    Ok(page)
}

pub(crate) async fn delete_tree(
    broken: &Broken,
    directory: &Directory,
    from: Option<&Cursor>,
    options: &WriteOptions,
) -> Result<Batch> {
    match broken.fault {
        Fault::SiblingsAreDeleted if !directory.is_root() => {
            for entry in broken.below(directory).await? {
                broken.store().delete(&entry.key, Expect::Anything, options).await?;
            }
        }
        Fault::DeletesOneLevel => {
            let children = ListOptions::default().recursive(false).keys_only(true);
            let page = broken.store().list(directory, from, &children).await?;
            for key in page.items.iter().filter_map(Item::key) {
                broken.store().delete(key, Expect::Anything, options).await?;
            }
            return Ok(Batch { deleted: Some(page.items.len() as u64), next: page.next });
        }
        Fault::DeletesItself if !directory.is_root() => {
            let key = Key::parse(directory.as_str())?;
            broken.store().delete(&key, Expect::Anything, options).await?;
        }
        Fault::DeletesKeyByKey => {
            let all = broken.all(directory).await?;
            for entry in &all {
                broken.store().delete(&entry.key, Expect::Anything, options).await?;
                tokio::task::yield_now().await;
            }
            return Ok(Batch { deleted: Some(all.len() as u64), next: None });
        }
        Fault::DeleteTreeFreesLocks => lock::free_all(broken).await,
        Fault::CursorsLeadOutside if from.is_some() => {
            let page = broken.store().list(&Directory::root(), from, &ListOptions::default()).await?;
            for key in page.items.iter().filter_map(Item::key) {
                broken.store().delete(key, Expect::Anything, options).await?;
            }
        }
        _ => {}
    }
    broken.check_removal()?;
    let mut batch = broken.store().delete_tree(directory, from, options).await?;
    broken.lease_has_lost(directory);
    if broken.fault == Fault::MiscountsDeleted {
        batch.deleted = batch.deleted.map(|n| n + 1);
    }
    Ok(batch)
}
