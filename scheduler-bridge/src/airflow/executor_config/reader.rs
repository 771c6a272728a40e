//! The bytes of a pickle, read with every length checked against what is left.

use std::borrow::Cow;

use super::DecodeError;

/// A position in a pickle.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn malformed(&self, what: impl Into<String>) -> DecodeError {
        DecodeError::Malformed { at: self.at, what: what.into() }
    }

    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let rest = &self.bytes[self.at..];
        let Some(taken) = rest.get(..len) else {
            return Err(self.malformed(format!("it ends {} bytes early", len - rest.len())));
        };
        self.at += len;
        Ok(taken)
    }

    pub(super) fn byte(&mut self) -> Result<u8, DecodeError> {
        Ok(self.take(1)?[0])
    }

    /// An unsigned little-endian number of `width` bytes.
    pub(super) fn unsigned(&mut self, width: usize) -> Result<u64, DecodeError> {
        Ok(self.take(width)?.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
    }

    /// As many bytes as a number of `width` bytes says.
    pub(super) fn counted(&mut self, width: usize) -> Result<&'a [u8], DecodeError> {
        let len = self.unsigned(width)?;
        // What exceeds the address space exceeds what is left too.
        self.take(usize::try_from(len).unwrap_or(usize::MAX))
    }

    pub(super) fn counted_text(&mut self, width: usize) -> Result<Cow<'a, str>, DecodeError> {
        let bytes = self.counted(width)?;
        // Python writes lone surrogates too ("surrogatepass"); no field of a pod can hold one.
        std::str::from_utf8(bytes).map(Cow::Borrowed).map_err(|_| self.malformed("a text is not UTF-8"))
    }

    /// A text of Python 2, which must be ASCII.
    pub(super) fn counted_ascii(&mut self, width: usize) -> Result<Cow<'a, str>, DecodeError> {
        let text = self.counted_text(width)?;
        if text.is_ascii() { Ok(text) } else { Err(self.malformed("a str of Python 2 is not ASCII")) }
    }

    /// Up to the next line feed, as text.
    pub(super) fn line(&mut self) -> Result<&'a str, DecodeError> {
        let rest = &self.bytes[self.at..];
        let end =
            rest.iter().position(|b| *b == b'\n').ok_or_else(|| self.malformed("a line does not end"))?;
        let line = std::str::from_utf8(&rest[..end]).map_err(|_| self.malformed("a line is not UTF-8"))?;
        self.at += end + 1;
        Ok(line)
    }

    /// A line of protocol 0 that holds the `repr` of a str of Python 2.
    pub(super) fn quoted_line(&mut self) -> Result<String, DecodeError> {
        let line = self.line()?.trim();
        let inner = ['\'', '"'].iter().find_map(|quote| line.strip_prefix(*quote)?.strip_suffix(*quote));
        let inner = inner.ok_or_else(|| self.malformed("a str has no quotes"))?;
        unescape(inner).ok_or_else(|| self.malformed("a str has an escape that is none, or is not ASCII"))
    }

    /// A line of protocol 0 that holds a str: escapes are `\uXXXX` and `\UXXXXXXXX` alone.
    pub(super) fn unicode_line(&mut self) -> Result<String, DecodeError> {
        let rest = &self.bytes[self.at..];
        let end =
            rest.iter().position(|b| *b == b'\n').ok_or_else(|| self.malformed("a line does not end"))?;
        // The codec is Latin-1: each byte that is no escape is the character of that number.
        let line: String = rest[..end].iter().map(|b| char::from(*b)).collect();
        self.at += end + 1;
        raw_unicode(&line).ok_or_else(|| self.malformed("a str has an escape that is none"))
    }
}

/// Escapes of a Python 2 str literal that stand for ASCII.
fn unescape(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let escape = &rest[at + 1..];
        let first = escape.chars().next()?;
        let (code, len) = match first {
            'x' => (u8::from_str_radix(escape.get(1..3)?, 16).ok()?, 3),
            '0'..='7' => {
                let len = escape.bytes().take(3).take_while(|b| matches!(b, b'0'..=b'7')).count();
                (u8::try_from(u16::from_str_radix(&escape[..len], 8).ok()?).ok()?, len)
            }
            'n' => (b'\n', 1),
            'r' => (b'\r', 1),
            't' => (b'\t', 1),
            'a' => (7, 1),
            'b' => (8, 1),
            'v' => (11, 1),
            'f' => (12, 1),
            '\\' | '\'' | '"' => (u8::try_from(first).ok()?, 1),
            // Not an escape: the backslash stays.
            _ => (b'\\', 0),
        };
        out.push(char::from(code));
        rest = &escape[len..];
    }
    out.push_str(rest);
    out.is_ascii().then_some(out)
}

fn raw_unicode(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let escape = &rest[at + 1..];
        let digits = match escape.as_bytes().first() {
            Some(b'u') => 4,
            Some(b'U') => 8,
            _ => {
                out.push('\\');
                rest = escape;
                continue;
            }
        };
        let code = u32::from_str_radix(escape.get(1..=digits)?, 16).ok()?;
        out.push(char::from_u32(code)?);
        rest = &escape[digits + 1..];
    }
    out.push_str(rest);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_of_protocol_0_are_read() {
        assert_eq!(Reader::new(b"'a\\x41\\101\\n\\\\\\'\\q'\n").quoted_line().unwrap(), "aAA\n\\'\\q");
        assert!(Reader::new(b"'\\xff'\n").quoted_line().is_err());
        assert_eq!(Reader::new(b"\xe9\\u5317\\n\n").unicode_line().unwrap(), "\u{e9}\u{5317}\\n");
    }
}
