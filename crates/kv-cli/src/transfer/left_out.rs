//! Tells, for all transfers, of names that are no keys, and that listings therefore leave out.

use crate::{
    lines::V,
    out::{Out, note},
};
use kv_core::LeftOut;
use serde::Serialize;
use std::io::{self, Write};

/// The names that were left out, as an object of its own: beside the output, since nobody counts on
/// it there.
#[derive(Serialize)]
struct LeftOutLine<'a> {
    v: u8,
    place: &'a str,
    left_out: u64,
    adoptable: u64,
    names: &'a [String],
}

/// Tells on standard error what a place has that was left out.
pub(crate) fn tell(place: &str, left_out: &LeftOut, out: &Out) {
    let LeftOut { count, adoptable, names, .. } = left_out;
    if *count == 0 {
        return;
    }
    if out.is_json() {
        let line = LeftOutLine { v: V, place, left_out: *count, adoptable: *adoptable, names };
        if let Ok(line) = serde_json::to_string(&line) {
            let _ = writeln!(io::stderr(), "{line}");
        }
        return;
    }
    note(&sentence(place, left_out));
}

fn sentence(place: &str, left_out: &LeftOut) -> String {
    let LeftOut { count, adoptable, names, .. } = left_out;
    let named: Vec<_> = names.iter().map(|name| format!("{name:?}")).collect();
    let more = if *count > names.len() as u64 { ", …" } else { "" };
    let adopt = match adoptable {
        0 => String::new(),
        many => format!("; {many} of them can be listed after `kv adopt`"),
    };
    let names = if named.is_empty() { String::new() } else { format!(": {}{more}", named.join(", ")) };
    format!("left out of what {place} has, names that are no keys of kv ({count}){names}{adopt}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        exit::{Exit, Run},
        out::Buffer,
        transfer::{Place, Plan, compare, transfer},
    };
    use kv_core::driver::NotesLeftOut;

    /// Runs this with an output, and returns its exit code and what was printed.
    async fn printed(json: bool, run: impl AsyncFnOnce(&mut Out) -> Run) -> (Exit, String) {
        let buffer = Buffer::default();
        let mut out = Out::to_buffer(&buffer, json, false);
        let exit = run(&mut out).await.unwrap();
        out.flush().unwrap();
        (exit, buffer.text())
    }

    #[tokio::test]
    async fn names_that_are_no_keys_are_counted_and_are_no_agreement() {
        let from = kv_memory::open("memory://").await.unwrap();
        from.put("a", "1").await.unwrap();
        from.store().find::<kv_memory::Memory>().unwrap().raw_put("dir/", "theirs");
        let (from, to) = (Place::Store(from), Place::Store(kv_memory::open("memory://").await.unwrap()));
        let plan = Plan {
            replaces: true,
            deletes: false,
            max_delete: None,
            from_empty: false,
            dry_run: false,
            verbose: false,
        };
        let copied = "created 1, replaced 0, deleted 0; 0 were the same; 1 were left out; 0 differ now\n";
        assert_eq!(
            printed(false, async |out| transfer(&from, &to, &plan, out).await).await,
            (Exit::DONE, copied.to_owned())
        );
        let compared = "0 differ, 1 are the same, 1 were left out\n".to_owned();
        for (counts, exit) in [(true, Exit::NO), (false, Exit::DONE)] {
            let told = printed(false, async |out| compare(&from, &to, counts, out).await).await;
            assert_eq!(told, (exit, compared.clone()));
            // The other way round it is left out of what is compared with.
            let told = printed(true, async |out| compare(&to, &from, counts, out).await).await;
            assert_eq!(told, (exit, "{\"v\":1,\"differ\":0,\"same\":1,\"left_out\":1}\n".to_owned()));
        }
    }

    #[tokio::test]
    async fn an_empty_source_deletes_nothing_unless_that_is_said() {
        let to = kv_memory::open("memory://").await.unwrap();
        to.put("a", "1").await.unwrap();
        let (from, to) = (Place::Store(kv_memory::open("memory://").await.unwrap()), Place::Store(to));
        let plan = |from_empty, max_delete| Plan {
            replaces: true,
            deletes: true,
            max_delete,
            from_empty,
            dry_run: false,
            verbose: false,
        };
        let mut out = Out::to_buffer(&Buffer::default(), false, false);
        let refused = transfer(&from, &to, &plan(false, None), &mut out).await.unwrap_err();
        assert!(refused.exit() == Exit::FAILED && refused.words().unwrap().1.contains("--from-empty"));
        assert_eq!(transfer(&from, &to, &plan(true, None), &mut out).await.unwrap(), Exit::DONE);
        let Place::Store(kv) = &to else { unreachable!() };
        assert!(!kv.exists("a").await.unwrap());
        kv.put("a", "1").await.unwrap();
        assert_eq!(transfer(&from, &to, &plan(false, Some(1)), &mut out).await.unwrap(), Exit::DONE);
    }

    #[test]
    fn the_number_and_some_names_are_told() {
        let notes = NotesLeftOut::wanted();
        notes.note("dir/");
        notes.adoptable("a");
        let told = "left out of what the source has, names that are no keys of kv (2): \"dir/\", \"a\"; \
                    1 of them can be listed after `kv adopt`";
        assert_eq!(sentence("the source", &notes.noted()), told);
        notes.unnamed(9);
        assert!(sentence("it", &notes.noted()).contains("(11): \"dir/\", \"a\", …;"));
    }
}
