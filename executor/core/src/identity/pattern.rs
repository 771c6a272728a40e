//! How a rule names DAGs, queues, folders: a text, a glob, or a regular expression.

use globset::{GlobBuilder, GlobMatcher};
use regex::Regex;

/// What a regular expression begins with in windlass.toml.
pub const REGEX: &str = "regex:";

/// Longest compiled form of one expression, in bytes: a rule file must not fill the memory.
const REGEX_SIZE_MAX: usize = 1 << 20;

/// One pattern of a rule.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: String,
    form: Form,
}

/// How it is matched.
#[derive(Clone, Debug)]
pub(super) enum Form {
    /// Nothing in it is special.
    Exact,
    /// `*`, `?`, `[abc]`, `{a,b}`.
    Glob(GlobMatcher),
    /// Matches if it is found anywhere: `^` and `$` anchor it.
    Regex(Regex),
}

/// What a pattern is matched with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// A name: `*` stands for any characters.
    Name,
    /// A path: `*` and `?` stop at `/`, `**` does not.
    Path,
}

impl Pattern {
    /// Reads one as it stands in windlass.toml: `fin_*` is a glob, `regex:^fin_` a regular expression.
    ///
    /// # Errors
    /// What is wrong with it, as the end of a sentence.
    pub fn read(text: &str, of: Of) -> Result<Self, String> {
        if text.is_empty() {
            return Err("is empty; leave the condition out to match everything".into());
        }
        let form = match text.strip_prefix(REGEX) {
            Some(expression) => {
                Form::Regex(regex::RegexBuilder::new(expression).size_limit(REGEX_SIZE_MAX).build().map_err(
                    |error| format!("is no regular expression: {}", last_line(&error.to_string())),
                )?)
            }
            None if text.contains(['*', '?', '[', '{', '\\']) => Form::Glob(
                GlobBuilder::new(text)
                    .literal_separator(of == Of::Path)
                    .build()
                    .map_err(|error| format!("is no glob: {}", error.kind()))?
                    .compile_matcher(),
            ),
            None => Form::Exact,
        };
        Ok(Self { text: text.to_owned(), form })
    }

    /// Whether `text` is one of those meant.
    pub fn matches(&self, text: &str) -> bool {
        match &self.form {
            Form::Exact => self.text == text,
            Form::Glob(glob) => glob.is_match(text),
            Form::Regex(regex) => regex.is_match(text),
        }
    }

    pub(super) fn form(&self) -> &Form {
        &self.form
    }

    /// The text itself, where it stands for no other.
    pub fn exact(&self) -> Option<&str> {
        matches!(self.form, Form::Exact).then_some(self.text.as_str())
    }

    /// As it stands in windlass.toml.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether all that `other` matches is matched by this one too, as far as the texts tell: never true by mistake.
    pub fn covers(&self, other: &Self) -> bool {
        self.text == other.text
            || self.text == "*"
            || self.text == "**"
            || other.exact().is_some_and(|text| self.matches(text))
    }
}

/// The parser's own words: the lines before them draw an arrow into the text.
fn last_line(text: &str) -> &str {
    let line = text.lines().next_back().unwrap_or(text);
    line.strip_prefix("error: ").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, of: Of, text: &str) -> bool {
        Pattern::read(pattern, of).unwrap().matches(text)
    }

    #[test]
    fn a_name_is_matched_as_text_glob_or_expression() {
        let cases = [
            ("etl", "etl", true),
            ("etl", "etl2", false),
            ("etl_*", "etl_daily.v2/x", true),
            ("etl_*", "xetl_", false),
            ("e?l", "etl", true),
            ("{a,b}_x", "b_x", true),
            ("[ab]_x", "c_x", false),
            ("a.b", "axb", false),
            ("regex:^fin_\\d+$", "fin_12", true),
            ("regex:^fin_\\d+$", "fin_12x", false),
            ("regex:in", "fin_12", true),
        ];
        for (pattern, text, want) in cases {
            assert_eq!(matches(pattern, Of::Name, text), want, "{pattern} with {text}");
        }
    }

    #[test]
    fn the_star_of_a_path_stops_at_a_slash() {
        assert!(matches("teams/*", Of::Path, "teams/a"));
        assert!(!matches("teams/*", Of::Path, "teams/a/b"));
        assert!(matches("teams/**", Of::Path, "teams/a/b"));
    }

    #[test]
    fn what_is_no_pattern_says_why() {
        let fault = |text| Pattern::read(text, Of::Name).unwrap_err();
        assert_eq!(fault(""), "is empty; leave the condition out to match everything");
        assert_eq!(fault("regex:("), "is no regular expression: unclosed group");
        assert!(fault("a{b").starts_with("is no glob: unclosed alternate group"), "{}", fault("a{b"));
        assert!(fault("regex:(a{1000}){1000}").contains("regular expression"), "too large");
    }

    #[test]
    fn covering_is_never_claimed_by_mistake() {
        let covers = |a: &str, b: &str| {
            Pattern::read(a, Of::Name).unwrap().covers(&Pattern::read(b, Of::Name).unwrap())
        };
        assert!(covers("*", "regex:x") && covers("fin_*", "fin_a") && covers("fin_*", "fin_*"));
        assert!(!covers("fin_a", "fin_*") && !covers("fin_*", "fin_a*"));
    }
}
