//! Tests of the page.

use super::*;
use crate::{
    cell::{Cell, Op},
    counts::Counts,
    growth::Of,
    histogram::Histogram,
    rounds::Result,
};
use std::time::Duration;

fn latencies(micros: &[u64]) -> Histogram {
    let mut all = Histogram::default();
    micros.iter().for_each(|micros| all.note(Duration::from_micros(*micros)));
    all
}

fn side(side: &'static str, rates: &[f64]) -> Result {
    Result {
        side,
        rates: rates.to_vec(),
        medians: vec![1e6 / rates[0]; rates.len()],
        latencies: latencies(&[50; 200]),
    }
}

fn report() -> Report {
    let cells = vec![
        Measured {
            cell: Cell::new(Op::Get, 64),
            sides: vec![
                side("ours", &[962.0, 982.0]),
                side("eq", &[1_000.0, 1_000.0]),
                side("raw", &[2_000.0, 1_960.0]),
            ],
        },
        Measured { cell: Cell::new(Op::Lock, 1), sides: vec![side("ours", &[500.0, 510.0])] },
    ];
    let requests = [("evalsha".to_owned(), 1.0), ("get".to_owned(), 2.0)].into();
    let a_call = Counts { requests, received: Some(312.0), sent: None };
    let counted = vec![crate::counts::Counted { cell: Cell::new(Op::Get, 1), side: "ours", a_call }];
    let growth =
        [1_000, 10_000].map(|number| Point { of: Of::Get, number, latencies: latencies(&[40, 45]) }).into();
    Report {
        machine: Machine {
            date: "2026-01-02".into(),
            cores: 2,
            processor: "P".into(),
            memory_gib: 23.6,
            kernel: "6.1".into(),
            rust: "1.95.0".into(),
        },
        is_full: true,
        plan: Plan { rounds: 2, time: Duration::from_millis(500), warm: Duration::ZERO },
        parts: vec![Part {
            name: "redis",
            version: "Redis 7".into(),
            cells,
            counted: Some(("requests", counted)),
            growth,
        }],
        handle: vec![Cost {
            call: "get".into(),
            nanos: 209.0,
            allocations: 2.0,
            bytes: 960.0,
            future: 1_016.0,
        }],
        builds: vec![Build { name: "kv-core".into(), crates: 21, took: Duration::from_secs(9) }],
    }
}

#[test]
fn the_page_has_all_that_was_measured() {
    let page = report().page();
    for line in [
        "| date | 2026-01-02 |",
        "| machine | 2 cores (P), 24 GiB |",
        "| servers | Redis 7 |",
        "| rounds | 2 of 0.5 s for each side of a cell |",
        "| redis | **0.97** (0.97–0.97) | 1, 1 of 1 | **0.49** (0.49–0.49) | 0, 0 of 1 |",
        "![ratios on redis](performance/redis.svg)",
        "| get, 64 | **0.97** (0.96–0.98) | **0.49** (0.48–0.50) | 972 (962–982) | 1,000 (1,000–1,000) | \
         1,980 (1,960–2,000) |",
        "| lock, 1 | – | – | 505 (500–510) | – | – |",
        "| get | **3**: evalsha 1, get 2; 312 B in |",
        "| get, by the number of keys | 1,000 | 10,000 |",
        "| get | 209 | 2 | 960 | 1,016 |",
        "| kv-core | 21 | 9 |",
    ] {
        assert!(page.contains(&format!("{line}\n")), "no {line}\n{page}");
    }
    assert!(!page.contains("{{"), "a text is missing:\n{page}");
    assert!(page.contains("-- --full`"));
}

#[test]
fn each_backend_has_notes() {
    for (name, _) in crate::backends::ALL {
        assert!(notes(name).ends_with(".\n"), "{name}");
    }
}

#[test]
fn few_calls_tell_no_high_quantile() {
    let page = report().page();
    // Of two hundred calls there is a p99, and no p99.9.
    assert!(page.contains("| lock, 1 | 50 µs, 50 µs, – |"), "{page}");
}

#[test]
fn the_files_lie_beside_each_other() {
    let folder = tempfile::tempdir().unwrap();
    report().write(folder.path()).unwrap();
    for file in ["performance.md", "performance/redis.svg", "performance/get.svg"] {
        let text = fs::read_to_string(folder.path().join(file)).unwrap();
        assert!(!text.is_empty(), "{file}");
        if file.ends_with("svg") {
            assert!(text.starts_with("<svg ") && text.ends_with("</svg>\n"), "{text}");
            assert_eq!(text.matches("<text").count(), text.matches("</text>").count());
        }
    }
}
