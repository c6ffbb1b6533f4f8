//! The types that can be given as a value.

use bytes::Bytes;
use std::borrow::Cow;

/// A type that can be given as a value: text and bytes, owned or borrowed. Borrowed ones are
/// copied once; an owned `String`, `Vec<u8>` or [`Bytes`] is handed on as it is, and so is
/// [`Bytes::from_static`].
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
/// # let kv = kv_memory::open("memory://").await?;
/// async fn register(kv: &kv_core::Kv, address: &str) -> kv_core::Result<()> {
///     kv.put("nodes/1", address).await?; // text that lives as long as it likes
///     kv.put("nodes/2", format!("{address}:80")).await?;
///     kv.put("nodes/3", b"\x00\xff").await?;
///     Ok(())
/// }
/// # register(&kv, "10.0.0.1").await
/// # }
/// ```
pub trait IntoValue {
    /// Returns the bytes.
    fn into_value(self) -> Bytes;
}

macro_rules! owned {
    ($($type:ty),* $(,)?) => { $(
        impl IntoValue for $type {
            fn into_value(self) -> Bytes {
                Bytes::from(self)
            }
        }
    )* };
}
owned!(Bytes, String, Vec<u8>, Box<[u8]>);

macro_rules! borrowed {
    ($($type:ty => $bytes:expr),* $(,)?) => { $(
        impl IntoValue for $type {
            fn into_value(self) -> Bytes {
                let bytes: fn(&Self) -> &[u8] = $bytes;
                Bytes::copy_from_slice(bytes(&self))
            }
        }
    )* };
}
borrowed! {
    &str => |v| v.as_bytes(),
    &&str => |v| v.as_bytes(),
    &String => |v| v.as_bytes(),
    &[u8] => |v| v,
    &Vec<u8> => |v| v,
    Box<str> => |v| v.as_bytes(),
    std::sync::Arc<str> => |v| v.as_bytes(),
    std::sync::Arc<[u8]> => |v| v,
}

impl IntoValue for &Bytes {
    fn into_value(self) -> Bytes {
        self.clone()
    }
}

impl<const N: usize> IntoValue for [u8; N] {
    fn into_value(self) -> Bytes {
        Bytes::copy_from_slice(&self)
    }
}

impl<const N: usize> IntoValue for &[u8; N] {
    fn into_value(self) -> Bytes {
        Bytes::copy_from_slice(self)
    }
}

impl IntoValue for Cow<'_, str> {
    fn into_value(self) -> Bytes {
        match self {
            Cow::Borrowed(text) => text.into_value(),
            Cow::Owned(text) => text.into_value(),
        }
    }
}

impl IntoValue for Cow<'_, [u8]> {
    fn into_value(self) -> Bytes {
        match self {
            Cow::Borrowed(bytes) => bytes.into_value(),
            Cow::Owned(bytes) => bytes.into_value(),
        }
    }
}
