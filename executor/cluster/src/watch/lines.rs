//! The lines of a watch: framing within a bound, and what a line says.

use bytes::{Buf, Bytes, BytesMut};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

/// etcd takes 1.5 MiB per object, so a longer line is none of an object.
const LINE_MAX: usize = 8 << 20;

/// Cuts chunks into lines.
#[derive(Default)]
pub(super) struct Lines {
    buffer: BytesMut,
    /// Of the buffer, looked through without finding an end.
    searched: usize,
}

/// A line beyond the bound.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLong;

impl Lines {
    pub(super) fn push(&mut self, chunk: &[u8]) -> Result<(), TooLong> {
        self.buffer.extend_from_slice(chunk);
        let open = self.buffer.iter().rev().position(|b| *b == b'\n').unwrap_or(self.buffer.len());
        if open > LINE_MAX { Err(TooLong) } else { Ok(()) }
    }

    /// The next whole line without its end. What a cut connection leaves unfinished is never returned.
    pub(super) fn next(&mut self) -> Option<Bytes> {
        loop {
            let found = self.buffer[self.searched..].iter().position(|b| *b == b'\n');
            let Some(at) = found else {
                self.searched = self.buffer.len();
                return None;
            };
            let line = self.buffer.split_to(self.searched + at).freeze();
            self.buffer.advance(1);
            self.searched = 0;
            if !line.is_empty() {
                return Some(line);
            }
        }
    }
}

/// What a line of a watch says.
#[derive(Debug)]
pub(super) enum Line<T> {
    /// ADDED or MODIFIED.
    Seen(Box<T>),
    Deleted(Box<T>),
    Bookmark {
        resource_version: String,
        /// The list that the watch began with is whole.
        initial_events_end: bool,
    },
    Error {
        status: u16,
        message: String,
    },
    /// An object whose JSON is not what it should be. The watch goes on behind it, or it would stop at it for ever.
    Unreadable {
        resource_version: String,
        why: String,
    },
}

#[derive(Deserialize)]
struct Raw<'a> {
    r#type: &'a str,
    #[serde(borrow)]
    object: &'a RawValue,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Mark {
    metadata: MarkMeta,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct MarkMeta {
    resource_version: String,
    annotations: Option<MarkAnnotations>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct MarkAnnotations {
    #[serde(rename = "k8s.io/initial-events-end")]
    initial_events_end: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Said {
    code: u16,
    message: String,
}

impl<T: DeserializeOwned> Line<T> {
    pub(super) fn read(line: &[u8]) -> Result<Self, serde_json::Error> {
        let raw: Raw<'_> = serde_json::from_slice(line)?;
        let object = raw.object.get();
        match raw.r#type {
            "ADDED" | "MODIFIED" => Self::object(object, Self::Seen),
            "DELETED" => Self::object(object, Self::Deleted),
            "BOOKMARK" => {
                let mark: Mark = serde_json::from_str(object)?;
                let end = mark.metadata.annotations.and_then(|a| a.initial_events_end);
                let resource_version = mark.metadata.resource_version;
                Ok(Self::Bookmark { resource_version, initial_events_end: end.as_deref() == Some("true") })
            }
            // ERROR, and what a later Kubernetes may invent.
            other => {
                let said: Said = serde_json::from_str(object).unwrap_or_default();
                let message = format!("watch event {other}: {}", said.message);
                Ok(Self::Error { status: said.code, message })
            }
        }
    }

    fn object(object: &str, line: fn(Box<T>) -> Self) -> Result<Self, serde_json::Error> {
        match serde_json::from_str(object) {
            Ok(object) => Ok(line(Box::new(object))),
            Err(error) => {
                let mark: Mark = serde_json::from_str(object)?;
                Ok(Self::Unreadable {
                    resource_version: mark.metadata.resource_version,
                    why: error.to_string(),
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_whole_however_they_are_cut_and_a_torn_one_never() {
        let text = b"{\"a\":1}\n\n{\"b\":2}\n{\"torn\"";
        for size in 1..text.len() {
            let mut lines = Lines::default();
            let mut got = Vec::new();
            for chunk in text.chunks(size) {
                lines.push(chunk).unwrap();
                while let Some(line) = lines.next() {
                    got.push(line);
                }
            }
            assert_eq!(got, [&b"{\"a\":1}"[..], b"{\"b\":2}"], "chunks of {size}");
        }
    }

    #[test]
    fn a_line_without_end_is_an_error_before_it_fills_the_memory() {
        let mut lines = Lines::default();
        let chunk = vec![b'x'; 1 << 20];
        let pushed = (0..20).take_while(|_| lines.push(&chunk).is_ok()).count();
        assert_eq!(pushed, 8);
    }

    #[test]
    fn bookmarks_and_errors_are_read() {
        let mark = br#"{"type":"BOOKMARK","object":{"kind":"Pod","apiVersion":"v1","metadata":{"resourceVersion":"7","creationTimestamp":null,"annotations":{"k8s.io/initial-events-end":"true"}},"spec":{"containers":null},"status":{}}}"#;
        assert!(matches!(
            Line::<serde_json::Value>::read(mark).unwrap(),
            Line::Bookmark { resource_version, initial_events_end: true } if resource_version == "7"
        ));
        let gone = br#"{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"too old resource version: 1 (5)","reason":"Expired","code":410}}"#;
        assert!(
            matches!(Line::<serde_json::Value>::read(gone).unwrap(), Line::Error { status: 410, message } if message.contains("too old"))
        );
    }
}
