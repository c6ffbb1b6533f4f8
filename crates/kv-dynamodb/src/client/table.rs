//! Checks the table, and makes it where it is missing and `create` is set.

use crate::{
    client::{
        Client, backoff,
        item::{KEY, PARTITION, TTL},
    },
    error::{Failure, code},
    names::Identity,
};
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType, StreamSpecification,
    StreamViewType, TableDescription, TableStatus, TimeToLiveSpecification, TimeToLiveStatus,
};
use kv_core::{Error, ErrorKind, Result, backend::retry::RetrySafety, driver::Deadline};
use std::time::Duration;

/// The longest time in which a table may become active.
const MAKING: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) create: bool,
    pub(crate) replicas: bool,
}

/// The facts that opening learns of the table.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    /// Tells what an administrator has to do so that watches work; `None` where the stream is on.
    pub(crate) no_stream: Option<String>,
    /// Identifies the table; the prefix in it is empty.
    pub(crate) identity: Identity,
}

fn refused(why: String) -> Error {
    Error::new(ErrorKind::InvalidArgument, why)
}

/// Checks the table, and makes it where it is missing and `create` is set.
pub(crate) async fn open(client: &Client, wanted: Wanted, deadline: Deadline) -> Result<Table> {
    let name = &client.table;
    let (found, deadline) = match describe(client, deadline).await? {
        Some(found) => (found, deadline),
        None if wanted.create => (make(client, deadline).await?, Deadline::default()),
        None => {
            let why = format!(
                "there is no table {name:?} in this region and account; open it with `create`, or make it with: aws dynamodb \
                 create-table --table-name {name} --billing-mode PAY_PER_REQUEST --key-schema \
                 AttributeName={PARTITION},KeyType=HASH AttributeName={KEY},KeyType=RANGE --attribute-definitions \
                 AttributeName={PARTITION},AttributeType=S AttributeName={KEY},AttributeType=S --stream-specification \
                 StreamEnabled=true,StreamViewType=NEW_AND_OLD_IMAGES"
            );
            return Err(refused(why));
        }
    };
    check(name, &found, wanted)?;
    let found = if is_ready(&found) { found } else { ready(client, Deadline::after(MAKING)).await? };
    if !client.time.is_known() {
        let why = "the service's answers carry no `Date`, by which locks and TTLs are told; does a proxy leave it out?";
        return Err(Error::new(ErrorKind::Unsupported, why));
    }
    expiry(client, wanted, deadline).await?;
    let identity = Identity {
        arn: found.table_arn().map(str::to_owned),
        id: found.table_id().map(str::to_owned),
        made: found.creation_date_time().map(|made| format!("{made:?}")),
        table: name.clone(),
        prefix: String::new(),
    };
    Ok(Table { no_stream: no_stream(name, &found), identity })
}

fn is_ready(table: &TableDescription) -> bool {
    matches!(table.table_status(), Some(TableStatus::Active | TableStatus::Updating) | None)
}

pub(crate) async fn describe(client: &Client, deadline: Deadline) -> Result<Option<TableDescription>> {
    let describe = || async {
        let asked = client.tables().describe_table().table_name(&client.table).send().await;
        match asked {
            Ok(answer) => Ok(answer.table),
            Err(e) if code(&e) == Some("ResourceNotFoundException") => Ok(None),
            Err(e) => Err(Failure::from(e)),
        }
    };
    client.call(RetrySafety::Read, deadline, describe).await
}

/// Makes the table, or waits for one that another client made at the same time.
async fn make(client: &Client, deadline: Deadline) -> Result<TableDescription> {
    let attribute = |name: &str| {
        AttributeDefinition::builder().attribute_name(name).attribute_type(ScalarAttributeType::S).build()
    };
    let key =
        |name: &str, kind: KeyType| KeySchemaElement::builder().attribute_name(name).key_type(kind).build();
    let odd = |e| Error::new(ErrorKind::Other, "the SDK refused our own table").with_cause(e);
    let schema = vec![key(PARTITION, KeyType::Hash).map_err(odd)?, key(KEY, KeyType::Range).map_err(odd)?];
    let attributes = vec![attribute(PARTITION).map_err(odd)?, attribute(KEY).map_err(odd)?];
    let stream = StreamSpecification::builder()
        .stream_enabled(true)
        .stream_view_type(StreamViewType::NewAndOldImages)
        .build()
        .map_err(odd)?;
    let make = || async {
        let made = client
            .tables()
            .create_table()
            .table_name(&client.table)
            .set_key_schema(Some(schema.clone()))
            .set_attribute_definitions(Some(attributes.clone()))
            .billing_mode(BillingMode::PayPerRequest)
            .stream_specification(stream.clone());
        match made.send().await {
            Ok(_) => Ok(()),
            Err(e) if code(&e) == Some("ResourceInUseException") => Ok(()),
            Err(e) => Err(Failure::from(e)),
        }
    };
    client.call(RetrySafety::Repeatable, deadline, make).await?;
    ready(client, Deadline::after(MAKING)).await
}

async fn ready(client: &Client, deadline: Deadline) -> Result<TableDescription> {
    let mut backoff = backoff();
    loop {
        let found = describe(client, deadline).await?;
        if let Some(found) = found.as_ref().filter(|found| is_ready(found)) {
            return Ok(found.clone());
        }
        if deadline.has_passed() {
            let status = found.as_ref().and_then(TableDescription::table_status).map(TableStatus::as_str);
            let (table, status) = (&client.table, status.unwrap_or("missing"));
            let why = format!("the table {table:?} did not become active in time: it is {status}");
            return Err(Error::new(ErrorKind::Unavailable, why));
        }
        backoff.pause().await;
    }
}

/// Refuses a table on which a promise would be broken.
fn check(name: &str, table: &TableDescription, wanted: Wanted) -> Result<()> {
    let kind = |attribute: &str| {
        let defined = table.attribute_definitions().iter().find(|d| d.attribute_name() == attribute);
        defined.map_or_else(|| "?".to_owned(), |defined| defined.attribute_type().to_string())
    };
    let shape: Vec<_> = table
        .key_schema()
        .iter()
        .map(|key| (key.attribute_name(), key.key_type().as_str(), kind(key.attribute_name())))
        .collect();
    let ours = [(PARTITION, "HASH"), (KEY, "RANGE")];
    let same = shape.len() == 2
        && ours.iter().all(|(name, role)| shape.contains(&(name, role, ScalarAttributeType::S.to_string())));
    if !same {
        let shape: Vec<_> =
            shape.iter().map(|(name, role, kind)| format!("{name} ({role}, {kind})")).collect();
        return Err(refused(format!(
            "the table {name:?} has the key {}; this library's has {PARTITION} (HASH, S), {KEY} (RANGE, S): name another table, \
             or one that is missing, with `create`",
            shape.join(", ")
        )));
    }
    if table.table_status() == Some(&TableStatus::Deleting) {
        return Err(refused(format!(
            "the table {name:?} is being deleted; open it when that is over, with `create`"
        )));
    }
    if !table.replicas().is_empty() && !wanted.replicas {
        return Err(refused(format!(
            "the table {name:?} has replicas in other regions, whose writes do not see each other's conditions: versions, \
             locks and transactions hold within one region only; `replicas` goes on all the same"
        )));
    }
    Ok(())
}

/// Switches on the table's TTL if `create` is set; warns if it is off, since expired items then
/// stay for ever, though unseen.
async fn expiry(client: &Client, wanted: Wanted, deadline: Deadline) -> Result<()> {
    let describe = || async {
        let asked = client.tables().describe_time_to_live().table_name(&client.table).send().await;
        match asked {
            Ok(answer) => Ok(answer.time_to_live_description),
            Err(e) => Err(Failure::from(e)),
        }
    };
    let found = match client.call(RetrySafety::Read, deadline, describe).await {
        Ok(found) => found,
        // Credentials that may not ask get no warning.
        Err(e) if e.kind() == ErrorKind::PermissionDenied => return Ok(()),
        Err(e) => return Err(e),
    };
    let on = found.as_ref().is_some_and(|ttl| {
        let on =
            matches!(ttl.time_to_live_status(), Some(TimeToLiveStatus::Enabled | TimeToLiveStatus::Enabling));
        on && ttl.attribute_name() == Some(TTL)
    });
    // Credentials that may not switch it on can use the table all the same.
    let switched = match !on && wanted.create {
        true => Some(switch_on(client, deadline).await),
        false => None,
    };
    match switched {
        Some(Err(e)) if e.kind() != ErrorKind::PermissionDenied => return Err(e),
        Some(Ok(())) => return Ok(()),
        _ => {}
    }
    if !on {
        tracing::warn!(
            table = client.table,
            "items past their end are unseen, but stay in the table and cost their storage; switch its TTL on: aws dynamodb \
             update-time-to-live --table-name {} --time-to-live-specification Enabled=true,AttributeName={TTL}",
            client.table
        );
    }
    Ok(())
}

async fn switch_on(client: &Client, deadline: Deadline) -> Result<()> {
    let ttl = TimeToLiveSpecification::builder().attribute_name(TTL).enabled(true).build();
    let ttl = ttl.map_err(|e| Error::new(ErrorKind::Other, "the SDK refused our own TTL").with_cause(e))?;
    let switch_on = || async {
        let update = client.tables().update_time_to_live().table_name(&client.table);
        match update.time_to_live_specification(ttl.clone()).send().await {
            Ok(_) => Ok(()),
            // Another client switched it on.
            Err(e) if code(&e) == Some("ValidationException") => Ok(()),
            Err(e) => Err(Failure::from(e)),
        }
    };
    client.call(RetrySafety::Repeatable, deadline, switch_on).await
}

/// Returns what an administrator has to do so that there are watches; `None` where the stream is
/// on.
pub(crate) fn no_stream(name: &str, table: &TableDescription) -> Option<String> {
    let stream = table.stream_specification();
    let on = stream.is_some_and(|s| {
        s.stream_enabled() && s.stream_view_type() == Some(&StreamViewType::NewAndOldImages)
    });
    if on && table.latest_stream_arn().is_some() {
        return None;
    }
    let off_first = if stream.is_some_and(StreamSpecification::stream_enabled) {
        format!(
            "aws dynamodb update-table --table-name {name} --stream-specification StreamEnabled=false, and then "
        )
    } else {
        String::new()
    };
    Some(format!(
        "for watches, switch on the table's stream, with both images, and open the store anew: {off_first}aws dynamodb \
         update-table --table-name {name} --stream-specification StreamEnabled=true,StreamViewType=NEW_AND_OLD_IMAGES"
    ))
}
