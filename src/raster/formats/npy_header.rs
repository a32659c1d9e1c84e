//! The header of a `.npy` file (NEP 1): magic, version, and a Python dictionary of exactly three entries.
//!
//! The dictionary is read by a grammar of its own, in time linear in its length and without recursion: a general reader of Python
//! literals can be kept busy for ever by a hundred opening braces.

/// The first bytes of every `.npy` file.
pub(super) const MAGIC: &[u8] = b"\x93NUMPY";

/// Longest dictionary accepted, bytes; NumPy itself refuses more than 10,000.
const MAX_HEADER_BYTES: usize = 10_000;

/// Bytes before the values that are enough to read any header that is accepted.
pub(super) const MOST_HEADER_BYTES: u64 = MAX_HEADER_BYTES as u64 + 12;

/// Most dimensions accepted; NumPy itself has 64.
const MAX_DIMENSIONS: usize = 64;

/// What a `.npy` file holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NpyHeader {
    /// Type code and size such as `f4`, without the byte order.
    pub(super) kind: String,
    pub(super) is_big_endian: bool,
    pub(super) is_fortran_order: bool,
    pub(super) shape: Vec<u64>,
}

impl NpyHeader {
    /// Reads the header from the first bytes of a file; also gives where the values begin.
    ///
    /// # Errors
    /// A sentence about what is wrong, if this is not the header of a plain array.
    pub(super) fn parse(bytes: &[u8]) -> Result<(Self, usize), String> {
        let rest = bytes.strip_prefix(MAGIC).ok_or("it does not begin as .npy files do")?;
        let cut = || "it ends within its header".to_owned();
        let (version, rest) = rest.split_at_checked(2).ok_or_else(cut)?;
        let (len, rest) = match version[0] {
            1 => rest.split_first_chunk().map(|(len, rest)| (usize::from(u16::from_le_bytes(*len)), rest)),
            2 | 3 => rest.split_first_chunk().map(|(len, rest)| (u32::from_le_bytes(*len) as usize, rest)),
            other => return Err(format!("its format version is {other}; 1, 2 and 3 are accepted")),
        }
        .ok_or_else(cut)?;
        if len > MAX_HEADER_BYTES {
            return Err(format!("its header claims {len} bytes; at most {MAX_HEADER_BYTES} are accepted"));
        }
        let (text, data) = rest.split_at_checked(len).ok_or_else(cut)?;
        Ok((Dictionary { rest: text }.read()?, bytes.len() - data.len()))
    }
}

/// What is left to read of the dictionary.
struct Dictionary<'a> {
    rest: &'a [u8],
}

impl<'a> Dictionary<'a> {
    fn read(mut self) -> Result<NpyHeader, String> {
        let (mut descr, mut fortran, mut shape) = (None, None, None);
        self.expect(b'{')?;
        while !self.accept(b'}') {
            let key = self.string()?;
            self.expect(b':')?;
            match key {
                "descr" => descr = Some(self.string().map_err(|_| "it holds records; a plain array is needed")?),
                "fortran_order" => fortran = Some(self.boolean()?),
                "shape" => shape = Some(self.tuple()?),
                other => {
                    return Err(format!("its header has an entry {other:?}; descr, fortran_order and shape are known"));
                }
            }
            if !self.accept(b',') {
                self.expect(b'}')?;
                break;
            }
        }
        let missing = |name: &str| format!("its header has no {name}");
        let descr = descr.ok_or_else(|| missing("descr"))?;
        let (order, kind) = match descr.as_bytes().first() {
            Some(b'<' | b'>' | b'|' | b'=') => descr.split_at(1),
            _ => ("=", descr),
        };
        Ok(NpyHeader {
            kind: kind.to_owned(),
            is_big_endian: order == ">",
            is_fortran_order: fortran.ok_or_else(|| missing("fortran_order"))?,
            shape: shape.ok_or_else(|| missing("shape"))?,
        })
    }

    fn skip_space(&mut self) {
        self.rest = self.rest.trim_ascii_start();
    }

    fn accept(&mut self, byte: u8) -> bool {
        self.skip_space();
        match self.rest.split_first() {
            Some((first, rest)) if *first == byte => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    fn expect(&mut self, byte: u8) -> Result<(), String> {
        if self.accept(byte) {
            return Ok(());
        }
        let found = self.rest.first().map_or_else(|| "its end".to_owned(), |found| format!("{:?}", char::from(*found)));
        Err(format!("its header has {found} where {:?} is needed", char::from(byte)))
    }

    /// A text in single or double quotes; those of real headers have no escapes.
    fn string(&mut self) -> Result<&'a str, String> {
        self.skip_space();
        let wrong = || "its header has no text where one is needed".to_owned();
        let (quote, rest) = self.rest.split_first().filter(|(quote, _)| matches!(quote, b'\'' | b'"')).ok_or_else(wrong)?;
        let end = rest.iter().position(|byte| byte == quote).ok_or_else(wrong)?;
        self.rest = &rest[end + 1..];
        std::str::from_utf8(&rest[..end]).map_err(|_| wrong())
    }

    fn boolean(&mut self) -> Result<bool, String> {
        self.skip_space();
        for (word, value) in [(&b"True"[..], true), (b"False", false)] {
            if let Some(rest) = self.rest.strip_prefix(word) {
                self.rest = rest;
                return Ok(value);
            }
        }
        Err("its fortran_order is neither True nor False".to_owned())
    }

    /// Whole numbers in parentheses, with a comma after each but the last, which may have one.
    fn tuple(&mut self) -> Result<Vec<u64>, String> {
        self.expect(b'(')?;
        let mut numbers = Vec::new();
        while !self.accept(b')') {
            numbers.push(self.number()?);
            if numbers.len() > MAX_DIMENSIONS {
                return Err(format!("its shape has more than {MAX_DIMENSIONS} dimensions"));
            }
            if !self.accept(b',') {
                self.expect(b')')?;
                break;
            }
        }
        Ok(numbers)
    }

    fn number(&mut self) -> Result<u64, String> {
        self.skip_space();
        let digits = self.rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (text, rest) = self.rest.split_at(digits);
        // Python 2 wrote long integers as 512L.
        self.rest = rest.strip_prefix(b"L").unwrap_or(rest);
        let number = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
        number.ok_or_else(|| "its shape holds something that is not a whole number".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(version: u8, text: &str) -> Vec<u8> {
        let mut bytes = [MAGIC, &[version, 0]].concat();
        match version {
            1 => bytes.extend((text.len() as u16).to_le_bytes()),
            _ => bytes.extend((text.len() as u32).to_le_bytes()),
        }
        bytes.extend(text.as_bytes());
        bytes.extend(b"data");
        bytes
    }

    fn parse(text: &str) -> Result<NpyHeader, String> {
        let bytes = file(1, text);
        NpyHeader::parse(&bytes).map(|(header, data)| {
            assert_eq!(&bytes[data..], b"data");
            header
        })
    }

    #[test]
    fn headers_are_read_in_every_spelling_that_numpy_has_written() {
        let wanted = |shape: &[u64]| NpyHeader {
            kind: "f4".to_owned(),
            is_big_endian: false,
            is_fortran_order: false,
            shape: shape.to_vec(),
        };
        for (text, shape) in [
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (3, 5), }   \n", &[3, 5][..]),
            ("{\"shape\":(7,),\"fortran_order\":False,\"descr\":\"<f4\"}", &[7]),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (3L, 5L)}", &[3, 5]),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': ()}", &[]),
        ] {
            assert_eq!(parse(text), Ok(wanted(shape)), "{text}");
            let bytes = file(2, text);
            assert_eq!(NpyHeader::parse(&bytes).unwrap().0, wanted(shape));
        }
        let big = parse("{'descr': '>u2', 'fortran_order': True, 'shape': (1, 2)}").unwrap();
        assert!(big.is_big_endian && big.is_fortran_order && big.kind == "u2");
        assert_eq!(parse("{'descr': '|u1', 'fortran_order': False, 'shape': (1,)}").unwrap().kind, "u1");
    }

    #[test]
    fn what_is_no_header_is_refused_at_once() {
        let braces = "{".repeat(100);
        let many = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({})}}", "1,".repeat(100));
        for (text, word) in [
            (braces.as_str(), "no text"),
            (many.as_str(), "64 dimensions"),
            ("", "its end"),
            ("{'descr': '<f4'", "'}'"),
            ("{'descr': '<f4', 'fortran_order': 0, 'shape': (1,)}", "True nor False"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}", "whole number"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}", "whole number"),
            ("{'descr': '<f4', 'fortran_order': False}", "no shape"),
            ("{'descr': [('r', '<u2')], 'fortran_order': False, 'shape': (1,)}", "records"),
            ("{'descr': '<f4', 'x': 1}", "\"x\""),
        ] {
            assert!(parse(text).unwrap_err().contains(word), "{text}: {:?}", parse(text));
        }
        for (bytes, word) in [
            (&b"\x93NUMPY"[..], "ends within"),
            (b"\x93NUMPY\x02\0\xff\xff\xff\xff", "claims 4294967295 bytes"),
            (b"\x93NUMPY\x01\0\x10\0{", "ends within"),
            (b"\x93NUMPY\x09\0\x10\0{", "version is 9"),
            (b"nothing", "does not begin"),
        ] {
            assert!(NpyHeader::parse(bytes).unwrap_err().contains(word), "{bytes:?}");
        }
    }
}
