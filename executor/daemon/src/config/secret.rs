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
        let (place, query) = match rest.split_once('?') {
            Some((place, query)) => (place, Some(query)),
            None => (rest, None),
        };
        if query.is_some_and(|query| query.contains('@')) {
            // A password with a bare `?` or `@` in it: where it ends cannot be told.
            return format!("{scheme}://[redacted]");
        }
        // The last `@`: a password may hold one, and `:` and `/` too.
        let (user, place) = match place.rsplit_once('@') {
            Some((user, place)) => match user.split_once(':') {
                Some((name, _)) => (format!("{name}:***@"), place),
                None => (format!("{user}@"), place),
            },
            None => (String::new(), place),
        };
        let query = query.map(|q| q.split('&').map(mask_option).collect::<Vec<_>>().join("&"));
        let query = query.map_or(String::new(), |q| format!("?{q}"));
        format!("{scheme}://{user}{place}{query}")
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
            ("postgresql://u:hunter2/2?x@db/af", "postgresql://[redacted]"),
            ("postgresql://u:hunter2#/@db/af", "postgresql://u:***@db/af"),
            ("postgresql://db:5432/af?password=x@hunter2", "postgresql://[redacted]"),
            ("hunter2", "[redacted]"),
            ("", ""),
        ] {
            let secret = Secret::new(url);
            assert!(!secret.masked_url().contains("hunter2"), "{url}");
            assert_eq!(secret.masked_url(), expected);
            assert_eq!(format!("{secret:?}"), "[redacted]");
        }
    }
}
