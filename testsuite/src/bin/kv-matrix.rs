//! Makes `docs/compatibility.md`, and the table of backends in `README.md`, from what the runs of
//! the suite left behind, and `docs/contract.md` from its cases; with `--check` it tells whether
//! they are up to date. It runs in the workspace's folder, or has that as its argument.

use kv_testsuite::{Failure, matrix};
use std::{fs, io, path::PathBuf, process::ExitCode};

const BEGIN: &str = "<!-- backends:begin -->\n";
const END: &str = "<!-- backends:end -->";

fn main() -> ExitCode {
    match work() {
        Ok(stale) if stale.is_empty() => ExitCode::SUCCESS,
        Ok(stale) => {
            eprintln!("not up to date: {}; run all suites, then `ci/matrix`", stale.join(", "));
            ExitCode::FAILURE
        }
        Err(e) => {
            eprintln!("kv-matrix: {e}");
            ExitCode::FAILURE
        }
    }
}

/// Writes the files that are not up to date, or only returns their names when they are to be
/// checked.
fn work() -> Result<Vec<&'static str>, Failure> {
    let (mut check, mut root) = (false, PathBuf::from("."));
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--check" => check = true,
            option if option.starts_with('-') => {
                return Err(format!("unknown option {option:?}; usage: kv-matrix [--check] [FOLDER]").into());
            }
            folder => root = folder.into(),
        }
    }
    let folder = matrix::folder()?;
    let columns =
        matrix::load(&folder).map_err(|e| format!("{}: {e}; run the suites first", folder.display()))?;
    if columns.is_empty() {
        return Err(format!("{} holds no results; run the suites first", folder.display()).into());
    }
    let mut stale = Vec::new();
    let page = root.join("docs/compatibility.md");
    let readme = root.join("README.md");
    let text = read(&readme)?;
    let wanted = [
        ("docs/contract.md", root.join("docs/contract.md"), Some(matrix::contract())),
        ("docs/compatibility.md", page, Some(matrix::page(&columns))),
        ("README.md", readme, text.as_deref().and_then(|t| between(t, &matrix::brief(&columns)))),
    ];
    for (name, path, wanted) in wanted {
        let Some(wanted) = wanted else { continue };
        if read(&path)?.as_ref() == Some(&wanted) {
            continue;
        }
        if check {
            stale.push(name);
        } else {
            fs::create_dir_all(path.parent().unwrap_or(&root))?;
            fs::write(&path, wanted)?;
            println!("{name} written from {} backends", columns.len());
        }
    }
    Ok(stale)
}

/// Reads a file; `None` where there is none.
fn read(path: &PathBuf) -> io::Result<Option<String>> {
    match fs::read_to_string(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        text => text.map(Some),
    }
}

/// Returns the text with another table between the markers; `None` without markers.
fn between(text: &str, table: &str) -> Option<String> {
    let begin = text.find(BEGIN)? + BEGIN.len();
    let end = begin + text[begin..].find(END)?;
    Some(format!("{}{table}{}", &text[..begin], &text[end..]))
}
