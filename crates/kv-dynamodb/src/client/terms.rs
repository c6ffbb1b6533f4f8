//! Makes the expressions of requests, which state conditions on items.

use crate::client::{
    clock::Millis,
    item::{ENDS, OWNER, RENEWAL, TOKEN, VALUE, VERSION, bytes, number, text, versioned},
};
use aws_sdk_dynamodb::types::AttributeValue;
use kv_core::{Bytes, Version};
use std::collections::HashMap;

/// The names and values of the expressions of one request. The service refuses a name or value
/// that is given and not used.
#[derive(Clone, Debug, Default)]
pub(crate) struct Terms {
    names: HashMap<String, String>,
    values: HashMap<String, AttributeValue>,
}

impl Terms {
    /// Returns a name for the attribute that is no reserved word of the service.
    pub(crate) fn name(&mut self, attribute: &str) -> String {
        let alias = format!("#{attribute}");
        self.names.insert(alias.clone(), attribute.to_owned());
        alias
    }

    pub(crate) fn value(&mut self, value: AttributeValue) -> String {
        let alias = format!(":{}", self.values.len());
        self.values.insert(alias.clone(), value);
        alias
    }

    pub(crate) fn names(&self) -> Option<HashMap<String, String>> {
        (!self.names.is_empty()).then(|| self.names.clone())
    }

    pub(crate) fn values(&self) -> Option<HashMap<String, AttributeValue>> {
        (!self.values.is_empty()).then(|| self.values.clone())
    }

    /// States that the item has not ended, as far as can be told. A damaged end counts as not
    /// passed: the caller sees the damage in what was found.
    pub(crate) fn lives(&mut self, now: Millis) -> String {
        let (ends, now, kind) = (self.name(ENDS), self.value(number(now)), self.value(text("N")));
        format!("(attribute_not_exists({ends}) OR {ends} > {now} OR NOT attribute_type({ends}, {kind}))")
    }

    /// States that the item ends later, for certain.
    pub(crate) fn is_held(&mut self, now: Millis) -> String {
        format!("{} > {}", self.name(ENDS), self.value(number(now)))
    }

    /// States that the item has an end, and that it makes sense.
    pub(crate) fn has_sound_end(&mut self, last: Millis) -> String {
        let (ends, kind) = (self.name(ENDS), self.value(text("N")));
        let (least, last) = (self.value(number(0)), self.value(number(last)));
        format!("attribute_type({ends}, {kind}) AND {ends} BETWEEN {least} AND {last}")
    }

    /// States that the item is a key, of this library or foreign, and has not ended.
    pub(crate) fn exists(&mut self, now: Millis) -> String {
        let (value, kind) = (self.name(VALUE), self.value(text("B")));
        format!("(attribute_type({value}, {kind}) AND {})", self.lives(now))
    }

    pub(crate) fn is_at(&mut self, version: Version, now: Millis) -> String {
        let (name, version) = (self.name(VERSION), self.value(versioned(version)));
        format!("({name} = {version} AND {})", self.lives(now))
    }

    /// States that the item is foreign and has this value.
    pub(crate) fn is_foreign(&mut self, value: Bytes, now: Millis) -> String {
        let (version, name) = (self.name(VERSION), self.name(VALUE));
        let value = self.value(bytes(value));
        format!("(attribute_not_exists({version}) AND {name} = {value} AND {})", self.lives(now))
    }

    /// States that the version that is there is older, so that versions go up.
    pub(crate) fn is_older(&mut self, than: Version) -> String {
        let (name, than) = (self.name(VERSION), self.value(versioned(than)));
        format!("(attribute_not_exists({name}) OR {name} < {than})")
    }

    /// States that the lock's holder is the one of this id.
    pub(crate) fn is_owned(&mut self, owner: &str) -> String {
        let (name, owner) = (self.name(OWNER), self.value(text(owner)));
        format!("{name} = {owner}")
    }

    /// States that no renewal of this number or a later one has set the end.
    pub(crate) fn is_not_renewed(&mut self, by: u64) -> String {
        let (name, renewal) = (self.name(RENEWAL), self.value(number(by)));
        format!("(attribute_not_exists({name}) OR NOT ({name} >= {renewal}))")
    }

    /// States that the lock's token, if it has one, is lower.
    pub(crate) fn has_token_below(&mut self, token: u64) -> String {
        let (name, token) = (self.name(TOKEN), self.value(number(token)));
        format!("(attribute_not_exists({name}) OR {name} < {token})")
    }

    /// States that the record of the lock makes sense, and that nobody holds the lock now.
    pub(crate) fn is_free(&mut self, now: Millis, most: u64) -> String {
        let (owner, ends, token) = (self.name(OWNER), self.name(ENDS), self.name(TOKEN));
        let (text_type, number_type) = (self.value(text("S")), self.value(text("N")));
        let (least, now, most) = (self.value(number(0)), self.value(number(now)), self.value(number(most)));
        let counts =
            format!("(attribute_type({token}, {number_type}) AND {token} BETWEEN {least} AND {most})");
        let over = format!(
            "(attribute_type({owner}, {text_type}) AND attribute_type({ends}, {number_type}) AND {ends} BETWEEN \
             {least} AND {now} AND {counts})"
        );
        format!("((attribute_not_exists({owner}) AND (attribute_not_exists({token}) OR {counts})) OR {over})")
    }
}
