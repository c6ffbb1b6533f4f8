//! The cases that no answer of a `Store` can break, and how each was seen red.

/// The names of cases, and how they were seen red.
pub(crate) const NOTES: &[(&[&str], &str)] = &[
    (
        &["key.refused/names", "key.refused/lock"],
        "kept by the handle; red on kv-memory when `Key::parse` let `.` and `..` through",
    ),
    (&["key.refused/length"], "kept by the handle; red on kv-memory when `Key::parse` took 900 bytes"),
    (&["transact/twice"], "kept by the handle; red on kv-memory without its look at the keys written"),
    (&["ttl.replaced/and-lease"], "kept by the handle; red on kv-memory without its look at both options"),
    (
        &["ttl.refused/zero", "lock.freed/ttl-range"],
        "kept by the handle; red on kv-memory when `TtlRange::grant` took zero, the second also without its limit",
    ),
    (
        &["error.honest/refused-first"],
        "kept by the handle; red on kv-memory when a transaction left out the steps that were refused",
    ),
    (&["open.checked/scheme"], "kept by `Registry`; red on kv-memory when its message named no scheme"),
    (
        &["close/writes"],
        "a race that was found by reading: kv-consul's close ended the session of a put that was under way",
    ),
    (&["close/idempotent"], "kept by the handle; red on kv-memory when a closed handle went on"),
    (
        &["lock.known_loss/while-held"],
        "kept by the handle; red on kv-memory when the end of work under a lock did not wait for `close`",
    ),
    (
        &["close/link-frozen"],
        "kept by the handle; red on the networked store when `close` waited for the store without a limit",
    ),
    (
        &["error.deadline/short", "error.deadline/per-handle"],
        "kept by the handle; red on the networked store when calls were not cut off at their deadline",
    ),
    (
        &[
            "error.deadline/link-frozen",
            "error.deadline/answers-lost",
            "error.deadline/server-stopped",
            "error.deadline/server-paused",
        ],
        "kept by the handle; red on the networked store, which ignored the deadline, with a wait for a lock among the \
         calls, as long as such a wait ended with the first request that failed",
    ),
    (&["foreign.skipped/types"], "there is one type of data here; to be seen on a server that has several"),
];
