//! The emulator of DynamoDB under a name.

use super::Named;
use crate::{error::Error, launch, program::Spec};
use serde_json::{Value, json};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    process::Command,
    time::Duration,
};

const PATIENCE: Duration = Duration::from_secs(10);
/// The header of a signature, at which the emulator does not look.
const SIGNED: &str = "AWS4-HMAC-SHA256 \
    Credential=AKIDEXAMPLE/20200101/us-east-1/dynamodb/aws4_request, SignedHeaders=host, Signature=none";

pub(super) struct Dynamodb;

/// Returns the body of the answer, if its status is 200.
fn http(at: SocketAddr, head: &str, body: &str) -> Result<String, Error> {
    let ask = || {
        let mut stream = TcpStream::connect(at)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let request = format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = ask().map_err(|e| Error::new(format!("{at}: {e}")))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    match head.split(' ').nth(1) {
        Some("200") => Ok(body.to_owned()),
        _ => Err(Error::new(format!("{}: {body}", head.lines().next().unwrap_or_default()))),
    }
}

fn ask(spec: &Spec, operation: &str, body: &Value) -> Result<Value, Error> {
    let head = format!(
        "POST / HTTP/1.0\r\nhost: localhost\r\nx-amz-target: DynamoDB_20120810.{operation}\r\n\
         content-type: application/x-amz-json-1.0\r\nx-amz-date: 20200101T000000Z\r\nauthorization: {SIGNED}"
    );
    let answer = http(spec.address(1, 0), &head, &body.to_string())?;
    serde_json::from_str(&answer).map_err(|e| Error::new(format!("{operation}: {e}: {answer}")))
}

impl Named for Dynamodb {
    fn options(&self) -> &'static [&'static str] {
        &[]
    }

    fn ports(&self) -> usize {
        1
    }

    fn url(&self, spec: &Spec) -> String {
        let endpoint = format!("http://{}", spec.address(1, 0));
        format!("dynamodb://any:any@kv-test/?endpoint={endpoint}&region=us-east-1&create=true")
    }

    fn command(&self, spec: &Spec, number: usize) -> Result<Command, Error> {
        let (program, port) = (spec.folder.server(spec.kind)?, spec.address(number, 0).port());
        Ok(launch::dynamodb::command(&program, port, &spec.data(number).join("tables")))
    }

    fn client(&self, spec: &Spec) -> Result<Command, Error> {
        Err(Error::misuse(format!(
            "dynamodb has no client: use the AWS CLI, with --endpoint-url http://{}",
            spec.address(1, 0)
        )))
    }

    fn is_ready(&self, spec: &Spec, number: usize) -> bool {
        http(spec.address(number, 0), "GET / HTTP/1.0\r\nhost: localhost", "").is_ok()
    }

    fn put(&self, spec: &Spec, key: &str, value: &str) -> Result<(), Error> {
        let table = json!({
            "TableName": "selftest", "BillingMode": "PAY_PER_REQUEST",
            "KeySchema": [{ "AttributeName": "k", "KeyType": "HASH" }],
            "AttributeDefinitions": [{ "AttributeName": "k", "AttributeType": "S" }],
        });
        ask(spec, "CreateTable", &table)?;
        let item = json!({ "k": { "S": key }, "v": { "S": value } });
        ask(spec, "PutItem", &json!({ "TableName": "selftest", "Item": item })).map(drop)
    }

    fn get(&self, spec: &Spec, key: &str) -> Result<String, Error> {
        let request = json!({ "TableName": "selftest", "Key": { "k": { "S": key } } });
        let answer = ask(spec, "GetItem", &request)?;
        let value = answer["Item"]["v"]["S"].as_str();
        value.map(str::to_owned).ok_or_else(|| Error::new(format!("no such item: {answer}")))
    }
}
