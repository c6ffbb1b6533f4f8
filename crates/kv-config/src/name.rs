//! The names of a table's entries, as serde asks for them, and what text is parsed to.

use crate::fault::Fault;
use serde::{
    Deserializer,
    de::{IntoDeserializer, Visitor},
};
use std::str::FromStr;

/// Reads text as this type.
pub(crate) fn parse<T: FromStr>(text: &str, expected: &str) -> Result<T, Fault> {
    text.trim().parse().map_err(|_| Fault::new(format!("expected {expected}, found other text")))
}

/// Implements the methods for booleans and numbers, by a method `parsed` of the deserializer, and
/// by a function for what is not to be parsed.
macro_rules! numbers {
    ($of:ident) => {
        numbers! { $of,
            deserialize_bool => visit_bool(bool, "true or false"),
            deserialize_i8 => visit_i8(i8, "i8"),
            deserialize_i16 => visit_i16(i16, "i16"),
            deserialize_i32 => visit_i32(i32, "i32"),
            deserialize_i64 => visit_i64(i64, "i64"),
            deserialize_i128 => visit_i128(i128, "i128"),
            deserialize_u8 => visit_u8(u8, "u8"),
            deserialize_u16 => visit_u16(u16, "u16"),
            deserialize_u32 => visit_u32(u32, "u32"),
            deserialize_u64 => visit_u64(u64, "u64"),
            deserialize_u128 => visit_u128(u128, "u128"),
            deserialize_f32 => visit_f32(f32, "a number"),
            deserialize_f64 => visit_f64(f64, "a number"),
        }
    };
    ($of:ident, $($method:ident => $visit:ident($type:ty, $expected:literal)),* $(,)?) => { $(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            match self.parsed::<$type>($expected)? {
                Some(value) => visitor.$visit(value),
                None => $of(self.0, visitor),
            }
        }
    )* };
}
pub(crate) use numbers;

/// Reads the name of a table's entry, which is text, or a number where one is asked for.
pub(crate) struct Name<'a>(pub(crate) &'a str);

impl Name<'_> {
    fn parsed<T: FromStr>(&self, expected: &str) -> Result<Option<T>, Fault> {
        parse(self.0, expected).map(Some)
    }
}

fn named<'de, V: Visitor<'de>>(name: &str, visitor: V) -> Result<V::Value, Fault> {
    visitor.visit_str(name)
}

impl<'de> Deserializer<'de> for Name<'_> {
    type Error = Fault;

    numbers!(named);

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        named(self.0, visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_enum(self.0.into_deserializer())
    }

    serde::forward_to_deserialize_any! {
        char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}
