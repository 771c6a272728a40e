//! An error with all its causes, in one sentence or over several lines.

use std::error::Error;
use std::fmt::Write as _;

/// `what: cause: its cause`. A cause that its parent has already told is not repeated.
pub fn sentence(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            // Writing to a String cannot fail.
            let _ = write!(text, ": {words}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot connect to db:5432")]
    struct Outer(#[source] Middle);

    #[derive(Debug, thiserror::Error)]
    #[error("refused: {0}")]
    struct Middle(#[source] std::fmt::Error);

    #[test]
    fn each_cause_is_told_once() {
        let text = sentence(&Outer(Middle(std::fmt::Error)));
        let inner = std::fmt::Error.to_string();
        assert_eq!(text, format!("cannot connect to db:5432: refused: {inner}"));
    }
}
