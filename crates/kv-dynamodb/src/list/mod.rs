//! Listings and deletions of trees: queries of a range of sort keys.

pub(crate) mod read;

use crate::{
    client::{
        Client, corrupt,
        item::{ENDS, Found, Item as Stored, KEY, PARTITION, VALUE, VERSION, text},
        terms::Terms,
    },
    error::Failure,
    list::read::consistent,
    names::{Names, Range},
    store::Inner,
    write::turns::{Turn, TurnOf},
};
use aws_sdk_dynamodb::types::{DeleteRequest, WriteRequest};
use kv_core::{
    Batch, Bytes, Cursor, Deadline, Directory, Error, ErrorKind, Item, Key, ListOptions, Page, Position,
    ReadOptions, Result, WriteOptions, backend::retry::RetrySafety,
};
use std::{collections::HashMap, sync::Arc};
use tokio::task::JoinSet;

/// How many keys the first page asks for; the following ones as many as fill [`PAGE_BYTES`] by what was seen.
const FIRST: usize = 64;
const MOST: usize = 4096;
const PAGE_BYTES: usize = 1 << 20;
/// How many keys one batch of a deletion has, and one request of it.
const DELETED: usize = 200;
const DELETIONS: usize = 25;

/// What a query found, and where the next one begins.
pub(crate) struct Rows {
    pub(crate) rows: Vec<(String, Found)>,
    pub(crate) next: Option<String>,
}

/// One page of a range of sort keys.
pub(crate) async fn query(
    client: &Client,
    partition: &str,
    range: &Range,
    most: Option<usize>,
    with_values: bool,
    read: &ReadOptions,
) -> Result<Rows> {
    if range.start > range.end {
        return Ok(Rows { rows: Vec::new(), next: None });
    }
    let mut terms = Terms::default();
    let (p, k) = (terms.name(PARTITION), terms.name(KEY));
    let of = terms.value(text(partition));
    let (start, end) = (terms.value(text(&range.start)), terms.value(text(&range.end)));
    let keys = format!("{p} = {of} AND {k} BETWEEN {start} AND {end}");
    let (value, kind) = (terms.name(VALUE), terms.value(text("B")));
    let ours = format!("attribute_type({value}, {kind})");
    let projection = (!with_values).then(|| [k, terms.name(VERSION), terms.name(ENDS)].join(", "));
    let limit = most.map(|most| i32::try_from(most).unwrap_or(i32::MAX));
    let query = || async {
        let query = client
            .tables
            .query()
            .table_name(&client.table)
            .key_condition_expression(&keys)
            .filter_expression(&ours)
            .set_projection_expression(projection.clone())
            .set_expression_attribute_names(terms.names())
            .set_expression_attribute_values(terms.values())
            .set_limit(limit)
            .consistent_read(consistent(read));
        query.send().await.map_err(Failure::from)
    };
    let answer = client.call(RetrySafety::Read, read.deadline, query).await?;
    let name = |item: &Stored| item.get(KEY).and_then(|key| key.as_s().ok()).cloned();
    let rows = answer.items().iter().filter_map(|item| Some((name(item)?, Found::of(item)))).collect();
    let next = answer.last_evaluated_key().and_then(name).map(|last| Names::after(&last));
    Ok(Rows { rows, next })
}

/// Where a page begins.
struct PageToken {
    /// How many keys to ask for.
    size: usize,
    start: String,
}

impl PageToken {
    fn of(cursor: &Cursor) -> Option<Self> {
        let (size, start) = cursor.as_bytes().split_first_chunk::<4>()?;
        let size = usize::try_from(u32::from_be_bytes(*size)).ok()?;
        Some(Self { size, start: std::str::from_utf8(start).ok()?.to_owned() })
    }

    fn cursor(&self) -> Cursor {
        let size = u32::try_from(self.size).unwrap_or(u32::MAX).to_be_bytes();
        Cursor::new([&size[..], self.start.as_bytes()].concat())
    }
}

fn page_token(from: Option<&Cursor>) -> Result<Option<PageToken>> {
    let odd = || Error::new(ErrorKind::InvalidArgument, "a cursor of another store");
    from.map(|cursor| PageToken::of(cursor).ok_or_else(odd)).transpose()
}

pub(crate) async fn page(
    inner: &Inner,
    directory: &Directory,
    from: Option<&Cursor>,
    options: &ListOptions,
) -> Result<Page> {
    let Range { start, end } = Names::below(directory);
    let token = match page_token(from)? {
        Some(token) => token,
        None => {
            let behind = options.start_after.as_ref().map(Names::behind);
            PageToken { size: FIRST, start: behind.map_or(start.clone(), |behind| behind.max(start)) }
        }
    };
    let size = options.limit.map_or(token.size, |limit| token.size.min(limit.max(1)));
    let with_values = !options.keys_only && options.recursive;
    let range = Range { start: token.start, end };
    let client = &inner.client;
    let found = query(client, &inner.names.data, &range, Some(size), with_values, &options.read).await?;
    let last = found.next.is_some().then(|| found.rows.last().map(|(name, _)| name.clone())).flatten();
    let next_size = next_size(&found.rows);
    let (mut items, deep) = items(inner, directory, options, found.rows)?;
    if !with_values {
        items = completed(inner, items, options).await?;
    }
    let next = found.next.map(|next| {
        // What lies deeper is skipped, however much it is.
        let skips = deep.filter(|deep| last.is_some_and(|last| last.starts_with(&deep.start())));
        PageToken { size: next_size, start: skips.map_or(next, |deep| Names::behind_all(&deep)) }.cursor()
    });
    Ok(Page { items: items.into_iter().filter_map(Row::item).collect(), next })
}

fn next_size(rows: &[(String, Found)]) -> usize {
    let bytes = rows.iter().map(|(name, found)| name.len() + found.value.as_ref().map_or(0, Bytes::len) + 64);
    let each = bytes.sum::<usize>().checked_div(rows.len()).unwrap_or(1).max(1);
    (PAGE_BYTES / each).clamp(FIRST, MOST)
}

/// An item of a page in the making.
enum Row {
    Item(Item),
    /// A key whose value or version is still to be read.
    Open(Key),
}

impl Row {
    fn item(self) -> Option<Item> {
        match self {
            Self::Item(item) => Some(item),
            Self::Open(_) => None,
        }
    }
}

/// The items, and the child directory that was met last.
fn items(
    inner: &Inner,
    directory: &Directory,
    options: &ListOptions,
    rows: Vec<(String, Found)>,
) -> Result<(Vec<Row>, Option<Directory>)> {
    let (mut items, mut deep) = (Vec::with_capacity(rows.len()), None::<Directory>);
    for (name, found) in rows {
        let Some(key) = Names::parse(&name).filter(|key| key.is_below(directory)) else { continue };
        let Some(found) = inner.living(&name, Some(found))? else { continue };
        let wanted = |at: Position| options.start_after.as_ref().is_none_or(|place| at > *place);
        match directory.child_of(&key).filter(|_| !options.recursive) {
            Some(child) if deep.as_ref() == Some(&child) => {}
            Some(child) => {
                deep = Some(child.clone());
                if wanted(Position::Directory(child.clone())) {
                    items.push(Row::Item(Item::Directory(child)));
                }
            }
            None if !wanted(Position::Key(key.clone())) => {}
            None => items.push(match found.version {
                Some(version) if options.keys_only => Row::Item(Item::Key(key, version)),
                _ => match found.entry(key.clone()) {
                    Some(entry) => Row::Item(Item::Entry(entry)),
                    None => Row::Open(key),
                },
            }),
        }
    }
    Ok((items, deep))
}

/// Reads what a query without values left open: the values of children, the versions of what other tools wrote.
async fn completed(inner: &Inner, rows: Vec<Row>, options: &ListOptions) -> Result<Vec<Row>> {
    let open: Vec<_> = rows
        .iter()
        .filter_map(|row| if let Row::Open(key) = row { Some(key.as_str()) } else { None })
        .collect();
    if open.is_empty() {
        return Ok(rows);
    }
    let mut found = inner.items(&inner.names.data, open, &options.read).await?;
    let mut done = Vec::with_capacity(rows.len());
    for row in rows {
        let Row::Open(key) = row else {
            done.push(row);
            continue;
        };
        let found = inner.living(key.as_str(), found.remove(key.as_str()))?;
        done.extend(found.and_then(|found| found.entry(key)).map(|entry| {
            Row::Item(match options.keys_only {
                true => Item::Key(entry.key, entry.version),
                false => Item::Entry(entry),
            })
        }));
    }
    Ok(done)
}

/// One batch of deleting what lies below a directory.
pub(crate) async fn delete_batch(
    inner: &Inner,
    directory: &Directory,
    from: Option<&Cursor>,
    options: &WriteOptions,
) -> Result<Batch> {
    let Range { start, end } = Names::below(directory);
    let start = page_token(from)?.map_or(start, |token| token.start);
    let read = ReadOptions::default().deadline(options.deadline);
    let (client, partition) = (&inner.client, &inner.names.data);
    let range = Range { start, end };
    let found = query(client, partition, &range, Some(DELETED), false, &read).await?;
    let ours = |(name, found): (String, Found)| Some((Names::parse(&name)?, found));
    let ours: Vec<_> = found.rows.into_iter().filter_map(ours).collect();
    // What is damaged goes with the rest.
    let living = ours.iter().filter(|(_, found)| !found.is_over(&inner.client.time)).count();
    let deleted = ours.iter().map(|(key, _)| (key, TurnOf::Deletes));
    let _turn = Turn::of(&inner.shared.turns, deleted, options.deadline).await;
    let mut deletions = JoinSet::new();
    for keys in ours.chunks(DELETIONS) {
        let keys: Vec<_> = keys.iter().map(|(key, _)| Inner::key(partition, key.as_str())).collect();
        deletions.spawn(delete_all(client.clone(), keys, options.deadline));
    }
    let mut failed = None;
    while let Some(done) = deletions.join_next().await {
        let done = done.unwrap_or_else(|_| Err(corrupt("a deletion ended without an answer")));
        failed = failed.or(done.err());
    }
    match failed {
        Some(e) => Err(e),
        None => Ok(Batch {
            deleted: u64::try_from(living).ok(),
            next: found.next.map(|start| PageToken { size: 0, start }.cursor()),
        }),
    }
}

async fn delete_all(client: Arc<Client>, keys: Vec<Stored>, deadline: Deadline) -> Result<()> {
    let delete = |key: &Stored| {
        let delete = DeleteRequest::builder().set_key(Some(key.clone())).build();
        Ok(WriteRequest::builder()
            .delete_request(delete.map_err(|_| corrupt("the SDK refused a deletion"))?)
            .build())
    };
    let mut left = keys.iter().map(delete).collect::<Result<Vec<_>>>()?;
    while !left.is_empty() {
        let ask = HashMap::from([(client.table.clone(), left.clone())]);
        let write = || async {
            let written = client.tables.batch_write_item().set_request_items(Some(ask.clone())).send().await;
            let answer = written.map_err(Failure::from)?;
            let rest = answer.unprocessed_items().and_then(|tables| tables.get(&client.table)).cloned();
            let rest = rest.unwrap_or_default();
            // Nothing at all: more was asked than the table takes now.
            if rest.len() == left.len() { Err(Failure::throttled()) } else { Ok(rest) }
        };
        left = client.call(RetrySafety::Write, deadline, write).await?;
    }
    Ok(())
}
