//! The rooms of every backend: the same files, without a cycle of imports. Of every crate: files of a length that a person
//! reads in one sitting. Of all sources: how a doc comment opens.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// The most lines of a file; one that is longer is two.
const LONGEST: usize = 350;
/// The rooms that every backend has, as a file or as a folder.
const ROOMS: [&str; 10] =
    ["config", "core", "error", "lease", "list", "lock", "names", "store", "watch", "write"];
/// Rooms that would be empty: the template leaves leases to the handle's `Unsupported`, and its client makes its errors; keys
/// in memory are spelt as they are.
const EMPTY: [(&str, &str); 3] =
    [("store-template", "error"), ("store-template", "lease"), ("kv-memory", "names")];

/// The words of a question. A doc comment that opens with one leaves the reader to guess what the item is.
const QUESTIONS: [&str; 10] =
    ["How", "What", "When", "Where", "Whether", "Which", "Who", "Whom", "Whose", "Why"];

/// Returns the folder of the workspace.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace is above the suite")
}

/// Returns the crates that programs use, and the template.
fn crates() -> Vec<PathBuf> {
    let all = fs::read_dir(root().join("crates")).expect("the workspace has crates");
    let all = all.map(|entry| entry.expect("an entry can be read").path());
    all.chain([root().join("store-template")]).collect()
}

/// Returns the crates that have a store, the template among them.
fn backends() -> Vec<PathBuf> {
    crates().into_iter().filter(|path| path.join("src/store.rs").exists()).collect()
}

/// Returns all files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the folder can be read") {
            let path = entry.expect("an entry can be read").path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found
}

/// Returns the modules of a crate by their paths, `""` for the root, without those of unit tests.
fn modules(source: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for path in files(source) {
        let inside = path.strip_prefix(source).expect("it is inside").with_extension("");
        let parts: Vec<_> = inside.iter().map(|part| part.to_str().expect("names are text")).collect();
        if parts.iter().any(|part| ["tests", "bin"].contains(part)) {
            continue;
        }
        let name = match parts.as_slice() {
            ["lib" | "main"] => String::new(),
            [folders @ .., "mod"] => folders.join("::"),
            parts => parts.join("::"),
        };
        if path.extension().is_some_and(|extension| extension == "rs") {
            found.insert(name, code(&fs::read_to_string(&path).expect("sources are text")));
        }
    }
    found
}

/// Returns a source without its comments, texts and unit tests.
fn code(source: &str) -> String {
    let source = source.split("#[cfg(test)]\nmod ").next().unwrap_or(source);
    let (mut code, mut rest) = (String::new(), source);
    while let Some(at) = rest.find(['/', '"', '\'']) {
        code.push_str(&rest[..at]);
        rest = &rest[at..];
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if let Some(text) = rest.strip_prefix('"') {
            1 + end_of_text(text)
        } else if rest.starts_with("'\"'") {
            3
        } else {
            code.push_str(&rest[..1]);
            1
        };
        rest = &rest[skipped..];
    }
    code + rest
}

fn end_of_text(text: &str) -> usize {
    let mut is_escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            '"' if !is_escaped => return at + 1,
            _ => is_escaped = c == '\\' && !is_escaped,
        }
    }
    text.len()
}

/// Returns the paths that a piece of code names, those in the braces of a `use` among them.
fn paths(code: &str) -> Vec<Vec<String>> {
    let (mut found, mut rest) = (Vec::new(), code);
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    while let Some(at) = rest.find(is_word) {
        let path: &str = &rest[at..];
        let end = path.find(|c: char| !is_word(c) && c != ':').unwrap_or(path.len());
        let (head, behind) = (path[..end].trim_end_matches(':'), &path[end..]);
        let parts: Vec<_> =
            head.split("::").flat_map(|part| part.split(':')).filter(|part| !part.is_empty()).collect();
        let parts: Vec<_> = parts.into_iter().map(str::to_owned).collect();
        if path[..end].ends_with("::") && behind.starts_with('{') {
            let inside = end_of_braces(behind);
            for inner in paths(&behind[1..inside - 1]) {
                found.push(parts.iter().cloned().chain(inner).collect());
            }
            rest = &behind[inside..];
        } else {
            found.push(parts);
            rest = behind;
        }
    }
    found
}

fn end_of_braces(code: &str) -> usize {
    let mut depth = 0;
    for (at, c) in code.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 1 => return at + 1,
            '}' => depth -= 1,
            _ => {}
        }
    }
    code.len()
}

/// Returns the module of a path from the crate's root, which is a module, or something in one.
fn module<'a>(modules: &'a BTreeMap<String, String>, path: &[String]) -> &'a str {
    let mut modules = (0..=path.len()).rev().filter_map(|n| modules.get_key_value(&path[..n].join("::")));
    modules.next().expect("every path begins at the root").0
}

/// Returns which module imports which.
fn imports(modules: &BTreeMap<String, String>) -> BTreeMap<&str, BTreeSet<&str>> {
    let given: BTreeMap<_, _> = paths(&modules[""])
        .into_iter()
        .filter(|path| !module(modules, path).is_empty())
        .filter_map(|path| Some((path.last()?.clone(), path)))
        .collect();
    let of = |(name, code): (&'_ String, &String)| {
        let own: Vec<_> = name.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect();
        let children: BTreeSet<_> = code
            .lines()
            .filter_map(|line| line.trim().strip_suffix(';')?.rsplit_once("mod ").map(|(_, child)| child))
            .collect();
        let mut used = BTreeSet::new();
        for path in paths(code) {
            // `pub(crate)` is one as well.
            let [first, _, ..] = path.as_slice() else { continue };
            let absolute: Vec<String> = match first.as_str() {
                "crate" => path[1..].to_vec(),
                "super" => {
                    let up = path.iter().take_while(|part| *part == "super").count();
                    own[..own.len().saturating_sub(up)].iter().chain(&path[up..]).cloned().collect()
                }
                "self" => own.iter().chain(&path[1..]).cloned().collect(),
                first if children.contains(first) && path.len() > 1 => {
                    own.iter().chain(&path).cloned().collect()
                }
                _ => continue,
            };
            // What the crate gives to its users comes from a module.
            let is_of_the_root = module(modules, &absolute).is_empty();
            let comes_from = absolute.first().and_then(|name| given.get(name)).filter(|_| is_of_the_root);
            used.extend(
                [module(modules, comes_from.unwrap_or(&absolute))].into_iter().filter(|used| used != name),
            );
        }
        used
    };
    modules.iter().map(|module| (module.0.as_str(), of(module))).collect()
}

/// Returns the modules that are left when those without imports are taken away, again and again: those of cycles, and what
/// imports them.
fn in_cycles(mut imports: BTreeMap<&str, BTreeSet<&str>>) -> BTreeMap<String, Vec<String>> {
    loop {
        let left: BTreeSet<_> = imports.keys().copied().collect();
        for used in imports.values_mut() {
            used.retain(|used| left.contains(used));
        }
        let used: BTreeSet<_> = imports.values().flatten().copied().collect();
        let before = imports.len();
        imports.retain(|module, uses| !uses.is_empty() && used.contains(module));
        if imports.len() == before {
            let texts = |uses: BTreeSet<&str>| uses.into_iter().map(str::to_owned).collect();
            return imports.into_iter().map(|(module, uses)| (module.to_owned(), texts(uses))).collect();
        }
    }
}

#[test]
fn no_modules_import_each_other() {
    let mut found = Vec::new();
    for path in backends() {
        let modules = modules(&path.join("src"));
        let cycles = in_cycles(imports(&modules));
        if !cycles.is_empty() {
            found.push(format!("{}: {cycles:#?}", path.display()));
        }
    }
    assert!(found.is_empty(), "modules import each other, or what does: {}", found.join("\n"));
}

#[test]
fn a_cycle_is_seen() {
    let modules = |list: &[(&str, &str)]| {
        list.iter().map(|(name, source)| ((*name).to_owned(), code(source))).collect::<BTreeMap<_, _>>()
    };
    let straight = modules(&[
        ("", "mod a; mod b;\npub use a::A;"),
        ("a", "mod c;\nuse crate::b::{B, D};\npub struct A;"),
        ("a::c", "// crate::a\nfn c() -> &'static str { \"crate::a\" }"),
        ("b", "pub struct B; // use super::a"),
    ]);
    assert!(in_cycles(imports(&straight)).is_empty());
    for (module, import) in [
        ("b", "use crate::{a::A, other};"),
        ("b", "use super::a::A;"),
        ("b", "fn b() { crate::a::a() }"),
        ("a::c", "use crate::b::B; mod d; use super::super::A;"),
    ] {
        let mut round = straight.clone();
        round.insert(module.to_owned(), import.to_owned());
        round.insert("a".to_owned(), "mod c;\nuse crate::b::B; use c::C;\npub struct A;".to_owned());
        assert!(!in_cycles(imports(&round)).is_empty(), "{module}: {import}");
    }
}

#[test]
fn every_backend_has_the_same_rooms() {
    for path in backends() {
        let source = path.join("src");
        let lacking: Vec<_> = ROOMS
            .into_iter()
            .filter(|room| {
                !source.join(format!("{room}.rs")).exists() && !source.join(room).join("mod.rs").exists()
            })
            .filter(|room| !EMPTY.iter().any(|empty| path.ends_with(empty.0) && empty.1 == *room))
            .collect();
        assert!(lacking.is_empty(), "{} has no {lacking:?}", path.display());
    }
}

#[test]
fn every_file_of_a_crate_is_read_in_one_sitting() {
    for path in crates() {
        for file in files(&path.join("src")) {
            let source = fs::read_to_string(&file).expect("sources are text");
            let long = source.lines().count();
            assert!(long <= LONGEST, "{} has {long} lines, more than {LONGEST}", file.display());
        }
    }
}

#[test]
fn no_file_of_a_backend_imports_by_a_glob() {
    for path in backends() {
        for file in files(&path.join("src")) {
            let source = fs::read_to_string(&file).expect("sources are text");
            let globs: Vec<_> = source
                .lines()
                .filter(|line| line.trim_start().starts_with("use ") && line.contains('*'))
                .filter(|line| !line.contains("super::*"))
                .collect();
            assert!(globs.is_empty(), "{} imports by {globs:?}; name what it needs", file.display());
        }
    }
}

/// Returns the lines, counted from 1, with which doc comments open by the word of a question.
fn questions(source: &str) -> Vec<(usize, &str)> {
    let (mut found, mut before) = (Vec::new(), None);
    for (number, line) in (1..).zip(source.lines().map(str::trim_start)) {
        let doc = ["///", "//!"].into_iter().find(|doc| line.starts_with(doc));
        // An attribute or an empty line in the middle of a comment does not end it.
        if doc.is_none() && (line.is_empty() || line.starts_with("#[")) {
            continue;
        }
        let word = doc.and_then(|doc| line.strip_prefix(doc)?.split_whitespace().next());
        if doc != before && word.is_some_and(|word| QUESTIONS.contains(&word)) {
            found.push((number, line));
        }
        before = doc;
    }
    found
}

#[test]
fn a_question_is_seen_where_a_doc_comment_opens() {
    let source = "//! What a file holds.\n\n/// Who reads it.\nstruct A;\n\
                  /// Returns it.\n///\n/// What it was is gone.\n#[must_use]\n/// When it was there.\n\
                  fn a() {} // How it is done\n    /// Whatever this is.\n    b: u32,\n    /// How many.\n    c: u32,";
    let lines: Vec<_> = questions(source).into_iter().map(|(number, _)| number).collect();
    assert_eq!(lines, [1, 3, 13]);
}

#[test]
fn no_doc_comment_opens_with_a_question() {
    let mut found = Vec::new();
    for folder in ["crates", "examples", "store-template", "testsuite"] {
        for path in files(&root().join(folder)) {
            let inside = path.strip_prefix(root()).expect("it is inside");
            let is_source = path.extension().is_some_and(|extension| extension == "rs");
            if !is_source {
                continue;
            }
            let source = fs::read_to_string(&path).expect("sources are text");
            let lines = questions(&source).into_iter();
            found.extend(lines.map(|(number, line)| format!("{}:{number}: {line}", inside.display())));
        }
    }
    assert!(found.is_empty(), "open these with a verb or a noun:\n{}", found.join("\n"));
}
