//! `txn`: a transaction out of a few lines.

use crate::{
    exit::{Exit, Failure, Run},
    lines::{V, unbase64},
    out::Out,
    text::{self, Seen},
};
use clap::Args;
use kv_core::{Key, Kv, Outcome, Txn};
use serde::Serialize;
use std::{fs, io, path::PathBuf, time::Duration};

/// The arguments of `txn`.
#[derive(Args, Debug)]
pub(crate) struct TxnArgs {
    /// The file with the lines of the transaction; standard input if none is named
    file: Option<PathBuf>,
}

/// One line of a transaction.
#[derive(Debug, PartialEq, Eq)]
enum Line {
    Version(Key, Seen),
    Exists(Key),
    Put(Key, Vec<u8>, Option<Duration>),
    Delete(Key),
}

#[derive(Serialize)]
struct TxnLine<'a> {
    v: u8,
    committed: bool,
    /// For each write the version that the key has now; null for a deletion.
    #[serde(skip_serializing_if = "Option::is_none")]
    versions: Option<Vec<Option<String>>>,
    /// The first condition that was not true, by its number among the lines `when`, from 0 on.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
}

pub(crate) async fn txn(args: TxnArgs, kv: &Kv, out: &mut Out) -> Run {
    let read = tokio::task::spawn_blocking(move || match &args.file {
        Some(file) => fs::read_to_string(file).map_err(|e| format!("{} cannot be read: {e}", file.display())),
        None => io::read_to_string(io::stdin()).map_err(|e| format!("standard input cannot be read: {e}")),
    });
    let read = read.await.unwrap_or_else(|e| Err(format!("the transaction cannot be read: {e}")));
    let lines = parse(&read.map_err(Failure::here)?).map_err(Failure::usage)?;
    if lines.is_empty() {
        return Err(Failure::usage("the transaction has no lines"));
    }
    let txn = lines.into_iter().fold(kv.transact(), |txn, line| add(txn, line, kv));
    let outcome = txn.await?;
    if matches!(outcome, Outcome::Committed(_)) {
        out.acts().note();
    }
    match outcome {
        Outcome::Committed(written) if out.is_json() => {
            let versions = written.iter().map(|one| one.map(|one| one.version.to_string())).collect();
            let versions = Some(versions);
            out.object(&TxnLine { v: V, committed: true, versions, refused: None, message: None })?;
        }
        Outcome::Committed(written) => {
            for written in written.into_iter().flatten() {
                out.line(&written.version.to_string())?;
            }
        }
        Outcome::Refused(refusal) => {
            let message = refusal.to_string();
            if out.is_json() {
                let (refused, message) = (Some(refusal.index), Some(&*message));
                out.object(&TxnLine { v: V, committed: false, versions: None, refused, message })?;
                return Ok(Exit::CONFLICT);
            }
            return Err(Failure::Found(Exit::CONFLICT, message));
        }
    }
    Ok(Exit::DONE)
}

fn add(txn: Txn, line: Line, kv: &Kv) -> Txn {
    match line {
        Line::Version(key, Seen::At(version)) => txn.when_version(key, version),
        Line::Version(key, Seen::Nothing) => txn.when_missing(key),
        Line::Exists(key) => txn.when_exists(key),
        Line::Put(key, value, None) => txn.then(kv.put(key, value)),
        Line::Put(key, value, Some(ttl)) => txn.then(kv.put(key, value).ttl(ttl)),
        Line::Delete(key) => txn.then(kv.delete(key)),
    }
}

/// Reads the lines. The message names the line, and shows no value.
fn parse(text: &str) -> Result<Vec<Line>, String> {
    let mut lines = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        lines
            .push(words(line).and_then(|words| read(&words)).map_err(|why| format!("line {number}: {why}"))?);
    }
    Ok(lines)
}

/// Splits a line at its white space. A word in double quotes is a string of JSON.
fn words(line: &str) -> Result<Vec<String>, String> {
    let (mut words, mut rest) = (Vec::new(), line.trim_start());
    while !rest.is_empty() {
        let end = if rest.starts_with('"') {
            let mut is_escaped = false;
            let closing = rest.char_indices().skip(1).find(|(_, c)| {
                let closes = *c == '"' && !is_escaped;
                is_escaped = *c == '\\' && !is_escaped;
                closes
            });
            closing.map(|(at, _)| at + 1).ok_or("a quote is not closed")?
        } else {
            rest.find(char::is_whitespace).unwrap_or(rest.len())
        };
        let (word, behind) = rest.split_at(end);
        if behind.starts_with(|c: char| !c.is_whitespace()) {
            return Err("a quote ends in the middle of a word".to_owned());
        }
        words.push(if word.starts_with('"') {
            serde_json::from_str(word).map_err(|_| "a word in quotes is no string of JSON")?
        } else {
            word.to_owned()
        });
        rest = behind.trim_start();
    }
    Ok(words)
}

fn read(words: &[String]) -> Result<Line, String> {
    const FORM: &str = "it is none of `when KEY VERSION|none|exists`, `put KEY VALUE [ttl TIME]`, \
                        `put64 KEY BASE64 [ttl TIME]` and `delete KEY`";
    let key = |name: &str| Key::parse(name).map_err(|e| e.message().to_owned());
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let (put, ttl) = match *words.as_slice() {
        ["when", name, "exists"] => return Ok(Line::Exists(key(name)?)),
        ["when", name, seen] => return Ok(Line::Version(key(name)?, text::seen(seen)?)),
        ["delete", name] => return Ok(Line::Delete(key(name)?)),
        [put @ ("put" | "put64"), name, value] => ((put, name, value), None),
        [put @ ("put" | "put64"), name, value, "ttl", ttl] => {
            ((put, name, value), Some(text::duration(ttl)?))
        }
        _ => return Err(FORM.to_owned()),
    };
    let (how, name, value) = put;
    let value = if how == "put64" { unbase64(value)? } else { value.as_bytes().to_vec() };
    Ok(Line::Put(key(name)?, value, ttl))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        Key::parse(name).unwrap()
    }

    #[test]
    fn lines_are_read_word_by_word() {
        let text = "# move it\nwhen a 17.4\nwhen b none\n  when c exists\n\nput a/b \"two words \\\"\\n\\u00fc\" ttl 30s\n\
                    put64 c /w==\nput d x\ndelete \"e f\"\n";
        let ttl = Some(Duration::from_secs(30));
        let expected = vec![
            Line::Version(key("a"), Seen::At("17.4".parse().unwrap())),
            Line::Version(key("b"), Seen::Nothing),
            Line::Exists(key("c")),
            Line::Put(key("a/b"), "two words \"\nü".into(), ttl),
            Line::Put(key("c"), vec![255], None),
            Line::Put(key("d"), b"x".to_vec(), None),
            Line::Delete(key("e f")),
        ];
        assert_eq!(parse(text), Ok(expected));
    }

    #[test]
    fn a_line_that_is_wrong_is_named_and_its_value_is_not_shown() {
        for (text, part) in [
            ("put a b\nput a", "line 2: it is none of"),
            ("put a \"secret", "line 1: a quote is not closed"),
            ("put a \"secret\"x", "line 1: a quote ends in the middle"),
            ("put a \"\\secret\"", "line 1: a word in quotes"),
            ("when a secret", "is not a version"),
            ("put64 a secret!", "line 1: the base64 is damaged"),
            ("put ../a secret", "line 1: the name"),
            ("put a secret ttl 5x", "line 1: a duration looks like"),
        ] {
            let why = parse(text).unwrap_err();
            assert!(why.contains(part) && (part == "is not a version" || !why.contains("secret")), "{why}");
        }
    }
}
