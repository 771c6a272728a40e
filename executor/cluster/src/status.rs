//! The `Status` object with which an API server says no, and what a refusal that is none looks like.

use serde::Deserialize;

/// Of a server's words: enough for any admission message, short enough for a column.
const MESSAGE_MAX: usize = 1_000;

/// `meta/v1.Status` as far as it decides.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ApiStatus {
    kind: String,
    pub(crate) message: String,
    pub(crate) reason: String,
    pub(crate) code: u16,
    pub(crate) details: Option<Details>,
}

/// `meta/v1.StatusDetails`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Details {
    /// Resource, plural and lower case: `pods`, `namespaces`, `resourcequotas`.
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) retry_after_seconds: Option<u64>,
    pub(crate) causes: Vec<Cause>,
}

/// `meta/v1.StatusCause`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Cause {
    pub(crate) reason: String,
}

impl ApiStatus {
    /// `None`: the body is no Status, so what answered is perhaps no API server.
    pub(crate) fn read(body: &[u8]) -> Option<Self> {
        let status: Self = serde_json::from_slice(body).ok()?;
        (status.kind == "Status")
            .then(|| Self { message: clipped(status.message.clone(), MESSAGE_MAX), ..status })
    }

    /// `details.kind`, or nothing.
    pub(crate) fn about(&self) -> &str {
        self.details.as_ref().map_or("", |d| &d.kind)
    }

    /// A 403 of the quota admission: no room, or a quota so new that its controller has not counted yet.
    pub(crate) fn is_full_quota(&self) -> bool {
        self.message.contains("exceeded quota:") || self.message.contains("status unknown for quota:")
    }

    pub(crate) fn has_cause(&self, reason: &str) -> bool {
        self.details.as_ref().is_some_and(|d| d.causes.iter().any(|c| c.reason == reason))
    }
}

/// The words of an answer, for a message: the Status's own, else the start of what came in its place.
pub(crate) fn words(body: &[u8]) -> String {
    if let Some(status) = ApiStatus::read(body) {
        return if status.message.is_empty() { status.reason } else { status.message };
    }
    let text: String =
        String::from_utf8_lossy(body).chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let text = clipped(text.trim().to_owned(), 200);
    if text.is_empty() { "(no words)".into() } else { format!("(not an API server's words) {text}") }
}

/// At most `max` characters.
pub(crate) fn clipped(mut text: String, max: usize) -> String {
    if let Some((at, _)) = text.char_indices().nth(max) {
        text.truncate(at);
        text.push_str(" ...");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_a_proxy_is_no_status_and_is_shown_short() {
        let page = format!("<html>\n<h1>403 Forbidden</h1>{}", "x".repeat(5_000));
        assert!(ApiStatus::read(page.as_bytes()).is_none());
        assert!(ApiStatus::read(br#"{"kind":"Pod","status":{"phase":"Pending"}}"#).is_none());
        let shown = words(page.as_bytes());
        assert!(shown.starts_with("(not an API server's words) <html> <h1>403"), "{shown}");
        assert!(shown.len() < 250);
        assert_eq!(words(b""), "(no words)");
    }
}
