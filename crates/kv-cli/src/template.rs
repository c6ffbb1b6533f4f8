//! Templates over the keys of a store.

use kv_core::{Bytes, Directory, Key};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior, Value};
use serde::Serialize;
use std::{collections::BTreeMap, sync::Arc};

/// A key, as `ls` gives it to a template.
#[derive(Serialize)]
struct Listed<'a> {
    key: &'a str,
    name: &'a str,
    value: &'a str,
}

/// Renders a template with these keys. The functions of a template are `get`, `exists`, `ls` and
/// `from_json`; what is not there is an error unless the template says what to take in its place.
pub(crate) fn render(name: &str, source: &str, keys: &BTreeMap<Key, Bytes>) -> Result<String, String> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_keep_trailing_newline(true);
    // What is rendered is no page for a browser, whatever its name.
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    let keys = Arc::new(keys.clone());
    let known = keys.clone();
    environment
        .add_function("get", move |name: String, otherwise: Option<Value>| get(&known, &name, otherwise));
    let known = keys.clone();
    environment.add_function("exists", move |name: String| {
        Key::parse(&name).map(|key| known.contains_key(&key)).map_err(|e| refused(e.message().to_owned()))
    });
    environment.add_function("ls", move |name: String| ls(&keys, &name));
    environment.add_function("from_json", |text: String| {
        let parsed = serde_json::from_str::<serde_json::Value>(&text);
        parsed.map(Value::from_serialize).map_err(|_| refused("from_json: the text is no JSON".to_owned()))
    });
    environment.render_named_str(name, source, ()).map_err(|e| explained(&e))
}

fn refused(why: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, why)
}

/// Returns an error with those behind it, on one line.
fn explained(error: &Error) -> String {
    let mut words = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(error) = next {
        words = format!("{words}: {error}");
        next = error.source();
    }
    words
}

fn get(keys: &BTreeMap<Key, Bytes>, name: &str, otherwise: Option<Value>) -> Result<Value, Error> {
    let key = Key::parse(name).map_err(|e| refused(e.message().to_owned()))?;
    match (keys.get(&key), otherwise) {
        (Some(value), _) => text(&key, value).map(Value::from),
        (None, Some(otherwise)) => Ok(otherwise),
        (None, None) => {
            Err(refused(format!("there is no key {key:?}; get({name:?}, \"…\") takes a text then")))
        }
    }
}

/// Lists the keys below a directory, those in directories too.
fn ls(keys: &BTreeMap<Key, Bytes>, name: &str) -> Result<Value, Error> {
    let directory = Directory::parse(name).map_err(|e| refused(e.message().to_owned()))?;
    let below = keys.iter().filter(|(key, _)| key.is_below(&directory));
    let listed = below
        .map(|(key, value)| Ok(Listed { key: key.as_str(), name: key.name(), value: text(key, value)? }));
    Ok(Value::from_serialize(listed.collect::<Result<Vec<_>, Error>>()?))
}

fn text<'a>(key: &Key, value: &'a Bytes) -> Result<&'a str, Error> {
    std::str::from_utf8(value).map_err(|_| refused(format!("the value of {key:?} is no text")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(source: &str) -> Result<String, String> {
        let pairs: [(&str, &'static [u8]); 4] =
            [("app/a", b"1"), ("app/b/c", b"{\"n\":[2]}"), ("bad", b"\xff"), ("z", b"<&>")];
        let keys = pairs.map(|(key, value)| (Key::parse(key).unwrap(), Bytes::from_static(value)));
        render("page.html", source, &keys.into_iter().collect())
    }

    #[test]
    fn templates_read_keys() {
        for (source, expected) in [
            ("{{ get('app/a') }}\n", "1\n"),
            ("{{ get('z') }}", "<&>"),
            ("{{ get('none', 'x') }}", "x"),
            ("{% if exists('app/a') and not exists('app') %}yes{% endif %}", "yes"),
            (
                "{% for k in ls('app') %}{{ k.key }} {{ k.name }}={{ k.value }};{% endfor %}",
                "app/a a=1;app/b/c c={\"n\":[2]};",
            ),
            ("{{ from_json(get('app/b/c')).n[0] + 1 }}", "3"),
        ] {
            assert_eq!(rendered(source).as_deref(), Ok(expected), "{source}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (source, part) in [
            ("{{ get('none') }}", "there is no key \"none\""),
            ("{{ get('bad') }}", "the value of \"bad\" is no text"),
            ("{{ get('../a') }}", "reserved"),
            ("{{ nothing }}", "undefined"),
            ("{% if %}", "page.html:1"),
        ] {
            let why = rendered(source).unwrap_err();
            assert!(why.contains(part), "{source}: {why}");
        }
    }
}
