//! Several parts as one: their pages in order, their watches together.

use crate::{core::Part, list};
use futures::{StreamExt, stream};
use kv_core::{backend::stream as stream_of, *};
use std::{collections::BTreeMap, sync::Arc};

/// Pages of the parts as one, in order: the first of what each has, up to where one of them was cut.
pub(crate) async fn page(
    parts: &[Arc<Part>],
    directory: &Directory,
    from: Option<&Cursor>,
    options: &ListOptions,
) -> Result<Page> {
    let mut options = options.clone();
    if let Some(place) = from.and_then(Page::place) {
        options.start_after = Some(place);
    }
    let pages = parts.iter().map(|part| first_page(part, directory, &options));
    let pages: Vec<Page> = futures::future::try_join_all(pages).await?;
    // Behind the last of a page that has a next one, its part may have more.
    let last = |page: &Page| page.items.last().filter(|_| page.next.is_some()).map(Item::position);
    let cut = pages.iter().filter_map(last).min();
    let mut items = BTreeMap::new();
    for item in pages.into_iter().flat_map(|page| page.items) {
        if cut.as_ref().is_none_or(|cut| item.position() <= *cut) {
            // A directory may be in every part.
            items.entry(item.position()).or_insert(item);
        }
    }
    let most = options.limit.unwrap_or(usize::MAX);
    let more = cut.is_some() || items.len() > most;
    let items: Vec<Item> = items.into_values().take(most).collect();
    let next = items.last().filter(|_| more).map(|last| Page::behind(&last.position()));
    Ok(Page { items, next })
}

/// The first page of a part that is not empty, unless all are.
async fn first_page(part: &Part, directory: &Directory, options: &ListOptions) -> Result<Page> {
    let mut page = list::page(&part.core, directory, None, options).await?;
    while let Some(next) = page.next.as_ref().filter(|_| page.items.is_empty()) {
        page = list::page(&part.core, directory, Some(next), options).await?;
    }
    Ok(page)
}

/// The watches of the parts as one; `Synced` when all of them are, and when one of them is again.
pub(crate) fn joined(parts: Vec<WatchStream>) -> WatchStream {
    let waiting = parts.len();
    let parts = parts.into_iter().enumerate().map(|(n, part)| part.map(move |event| (n, event)).boxed());
    let mut all = stream::select_all(parts);
    stream_of(move |out| async move {
        let mut synced = vec![false; waiting];
        while let Some((n, event)) = all.next().await {
            match event? {
                WatchEvent::Synced => {
                    synced[n] = true;
                    if synced.iter().all(|synced| *synced) {
                        out.send(WatchEvent::Synced).await;
                    }
                }
                event => out.send(event).await,
            }
        }
        Ok(())
    })
}
