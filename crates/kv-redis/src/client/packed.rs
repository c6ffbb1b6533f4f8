//! Lists that a script packs into one text, by `cmsgpack.pack`. An answer of many parts takes the
//! client several times as long to read.

use crate::client::answer::{Answer, not_ours};
use kv_core::{Bytes, Result};

/// A packed list of texts, whole numbers, and `false` in the place of what there is not.
#[derive(Debug)]
pub(crate) struct Packed {
    packed: Bytes,
    /// The place of the next part.
    at: usize,
    /// The number of parts that are still to be read.
    left: usize,
}

impl Packed {
    /// Reads the head of the list.
    pub(crate) fn of(answer: Answer) -> Result<Self> {
        let mut list = Self { packed: answer.bytes()?, at: 0, left: 0 };
        list.left = match list.byte()? {
            head @ 0x90..=0x9f => usize::from(head & 0x0f),
            0xdc => list.length(2)?,
            0xdd => list.length(4)?,
            _ => return Err(not_ours()),
        };
        Ok(list)
    }

    /// Tells whether all parts were read.
    pub(crate) fn is_over(&self) -> bool {
        self.left == 0
    }

    /// Reads a text; `None` where there is none.
    pub(crate) fn text(&mut self) -> Result<Option<&[u8]>> {
        let range = self.range()?;
        Ok(range.map(|range| &self.packed[range]))
    }

    /// Reads a text that is to be kept; `None` where there is none.
    pub(crate) fn bytes(&mut self) -> Result<Option<Bytes>> {
        let range = self.range()?;
        Ok(range.map(|range| self.packed.slice(range)))
    }

    /// Reads a whole number; `None` where there is none.
    pub(crate) fn number(&mut self) -> Result<Option<i64>> {
        self.part()?;
        Ok(Some(match self.byte()? {
            0xc2 => return Ok(None),
            small @ 0x00..=0x7f => i64::from(small),
            small @ 0xe0..=0xff => i64::from(small.cast_signed()),
            0xcc => i64::from(self.byte()?),
            0xcd => i64::from(u16::from_be_bytes(self.take()?)),
            0xce => i64::from(u32::from_be_bytes(self.take()?)),
            0xcf => i64::try_from(u64::from_be_bytes(self.take()?)).map_err(|_| not_ours())?,
            0xd0 => i64::from(self.byte()?.cast_signed()),
            0xd1 => i64::from(i16::from_be_bytes(self.take()?)),
            0xd2 => i64::from(i32::from_be_bytes(self.take()?)),
            0xd3 => i64::from_be_bytes(self.take()?),
            _ => return Err(not_ours()),
        }))
    }

    fn range(&mut self) -> Result<Option<std::ops::Range<usize>>> {
        self.part()?;
        let length = match self.byte()? {
            0xc2 => return Ok(None),
            head @ 0xa0..=0xbf => usize::from(head & 0x1f),
            0xd9 => self.length(1)?,
            0xda => self.length(2)?,
            0xdb => self.length(4)?,
            _ => return Err(not_ours()),
        };
        let end = self.at.checked_add(length).filter(|end| *end <= self.packed.len()).ok_or_else(not_ours)?;
        let begin = std::mem::replace(&mut self.at, end);
        Ok(Some(begin..end))
    }

    fn part(&mut self) -> Result<()> {
        self.left = self.left.checked_sub(1).ok_or_else(not_ours)?;
        Ok(())
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let bytes = self.packed.get(self.at..).and_then(|rest| rest.first_chunk()).ok_or_else(not_ours)?;
        self.at += N;
        Ok(*bytes)
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(u8::from_be_bytes(self.take()?))
    }

    fn length(&mut self, bytes: usize) -> Result<usize> {
        let mut length = 0;
        for _ in 0..bytes {
            length = length << 8 | usize::from(self.byte()?);
        }
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(bytes: &[u8]) -> Result<Packed> {
        Packed::of(Answer(fred::types::Value::Bytes(Bytes::copy_from_slice(bytes))))
    }

    #[test]
    fn parts_are_read_in_order() {
        let mut list = packed(b"\x96\xa1a\xc2\xd9\x02bc\xda\x00\x01d\xdb\x00\x00\x00\x00\x07").unwrap();
        assert_eq!(list.text().unwrap(), Some(&b"a"[..]));
        assert_eq!(list.bytes().unwrap(), None);
        assert_eq!(list.bytes().unwrap().as_deref(), Some(&b"bc"[..]));
        assert_eq!(list.text().unwrap(), Some(&b"d"[..]));
        assert_eq!(list.text().unwrap(), Some(&b""[..]));
        assert!(!list.is_over());
        assert_eq!(list.number().unwrap(), Some(7));
        assert!(list.is_over());
        assert!(list.number().is_err());
    }

    #[test]
    fn whole_numbers_of_all_sizes_are_read() {
        let mut list = packed(
            b"\xdc\x00\x0b\x7f\xff\xcc\xff\xcd\x01\x00\xce\x00\x01\x00\x00\xcf\0\0\0\x01\0\0\0\0\
            \xd0\x80\xd1\xff\x00\xd2\xff\xff\x00\x00\xd3\xff\xff\xff\xff\0\0\0\0\xc2",
        )
        .unwrap();
        for number in [127, -1, 255, 256, 65_536, 1 << 32, -128, -256, -65_536, -(1 << 32)]
            .map(Some)
            .into_iter()
            .chain([None])
        {
            assert_eq!(list.number().unwrap(), number);
        }
        assert!(list.is_over());
    }

    #[test]
    fn what_was_cut_or_is_no_list_is_no_answer_of_ours() {
        for bytes in [&b""[..], b"\xa1a", b"\xdc\x00", b"\x80"] {
            assert!(packed(bytes).is_err(), "{bytes:?}");
        }
        for bytes in [&b"\x91"[..], b"\x91\xa2a", b"\x91\xda\x00", b"\x91\xdb\xff\xff\xff\xffa", b"\x91\xc0"]
        {
            assert!(packed(bytes).unwrap().text().is_err(), "{bytes:?}");
        }
        for bytes in [&b"\x91"[..], b"\x91\xcd\x01", b"\x91\xcb", b"\x91\xcf\xff\xff\xff\xff\xff\xff\xff\xff"]
        {
            assert!(packed(bytes).unwrap().number().is_err(), "{bytes:?}");
        }
    }
}
