//! Pod names: the part that people read is Airflow's (`slugify` of dag and task), the last 8 characters are ours.

use unicode_normalization::UnicodeNormalization;

use crate::ids::{Attempt, LaunchId};

/// Longest pod name: it becomes the hostname, and Linux takes 63 characters.
pub const NAME_MAX: usize = 63;
/// Characters after the last dash: `secrets.choice` in Airflow, a hash of launch and attempt here.
const SUFFIX_LEN: usize = 8;

/// The entities that HTML 4 names, `name codepoint` a line. See `generate.py data` in the fixtures.
const ENTITIES: &str = include_str!("html_entities.txt");

/// Name of the pod of one attempt: what Airflow would show, then a hash, so that a repeated create meets 409.
///
/// An id of which nothing is left after transliteration gives a name that begins with a dash, as in Airflow; the API
/// server refuses it by name.
pub fn pod_name(dag_id: &str, task_id: &str, launch: &LaunchId, attempt: Attempt) -> String {
    with_suffix(&visible_part(dag_id, task_id, NAME_MAX), &launch.name_suffix(attempt), NAME_MAX)
}

/// `create_unique_id(dag_id, task_id, unique=False)`: what both ids come to within `max` characters.
pub fn visible_part(dag_id: &str, task_id: &str, max: usize) -> String {
    let both = if dag_id.is_empty() || task_id.is_empty() {
        format!("{dag_id}{task_id}")
    } else {
        format!("{dag_id}-{task_id}")
    };
    let slug = slugify(&both);
    slug[..slug.len().min(max)].trim_matches(['.', '-']).to_owned()
}

/// `add_unique_suffix`: cut to leave room, dots and dashes trimmed at both ends, dash and suffix.
pub fn with_suffix(name: &str, suffix: &str, max: usize) -> String {
    let room = max.saturating_sub(SUFFIX_LEN + 1);
    let end = name.char_indices().nth(room).map_or(name.len(), |(at, _)| at);
    format!("{}-{suffix}", name[..end].trim_matches(['.', '-']))
}

/// `slugify(text, lowercase=True)` of python-slugify with text-unidecode: ASCII letters, digits and single dashes.
pub fn slugify(text: &str) -> String {
    let text = quotes_to_dashes(text);
    let text = if text.is_ascii() { text } else { text.nfkd().map(transliterate).collect() };
    let text = if text.contains('&') { decode_entities(&text) } else { text };
    let text = if text.is_ascii() { text } else { text.nfkd().collect() };
    let text = text.to_lowercase().replace('\'', "");
    let mut slug = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    let mut last = '-';
    while let Some(c) = rest.next() {
        // "1,000" is one number: a comma between digits goes without a dash.
        let in_number = c == ',' && last.is_ascii_digit() && rest.peek().is_some_and(char::is_ascii_digit);
        if in_number {
            continue;
        }
        let kept = if c.is_ascii_alphanumeric() { c } else { '-' };
        if kept != '-' || !slug.ends_with('-') {
            slug.push(kept);
        }
        last = c;
    }
    slug.trim_matches('-').to_owned()
}

/// A run of single quotes is one dash.
fn quotes_to_dashes(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut in_quotes = false;
    for c in text.chars() {
        let quote = c == '\'';
        if !quote {
            out.push(c);
        } else if !in_quotes {
            out.push('-');
        }
        in_quotes = quote;
    }
    out
}

/// ASCII for one character as text-unidecode 1.3 has it. The crate's tables come from the same source (Perl's
/// Text::Unidecode) at another age; the arms are where they differ after NFKD, found by comparing every code point.
fn transliterate(c: char) -> &'static str {
    match c {
        '\u{80}'..='\u{9f}' | '\u{2e5}'..='\u{2eb}' => "",
        '\u{2ef}'..='\u{2ff}' | '\u{3f4}'..='\u{3f9}' | '\u{3fc}'..='\u{3ff}' => "[?]",
        '\u{6ff}' | '\u{af0}' | '\u{af1}' | '\u{af9}' | '\u{aff}' => "[?]",
        '\u{13f5}' | '\u{13f8}'..='\u{13fd}' | '\u{1efa}'..='\u{1eff}' => "[?]",
        '\u{25f4}'..='\u{25f7}' => "#",
        '\u{25f8}'..='\u{25ff}' | '\u{fdfd}' => "[?]",
        _ => unidecode::unidecode_char(c),
    }
}

/// Named, then decimal, then hexadecimal references, each pass over the result of the one before.
fn decode_entities(text: &str) -> String {
    let named = replace_references(text, |body| {
        let code = ENTITIES.lines().find_map(|line| line.strip_prefix(body)?.strip_prefix(' '))?;
        Some(code.parse().ok())
    });
    let decimal = named.as_deref().and_then(|text| {
        replace_references(text, |body| {
            let digits = body.strip_prefix('#')?;
            let all_digits = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
            all_digits.then(|| digits.parse().ok())
        })
    });
    let before_hex = decimal.or(named).unwrap_or_else(|| text.to_owned());
    let hex = replace_references(&before_hex, |body| {
        let digits = body.strip_prefix("#x")?;
        let all_digits = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit());
        all_digits.then(|| u32::from_str_radix(digits, 16).ok())
    });
    hex.unwrap_or(before_hex)
}

/// Replaces each `&body;` for which `code_of` gives a code point. None when one of them is no code point: slugify then
/// drops the whole pass.
fn replace_references(text: &str, code_of: impl Fn(&str) -> Option<Option<u32>>) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let body = after.split([';', '&']).next().unwrap_or("");
        match after[body.len()..].starts_with(';').then(|| code_of(body)).flatten() {
            Some(code) => {
                let code = code.filter(|code| *code <= 0x10_FFFF)?;
                // A surrogate is a character to Python and no letter to the slug.
                out.push(char::from_u32(code).unwrap_or('\u{fffd}'));
                rest = &after[body.len() + 1..];
            }
            None => {
                out.push('&');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_decoded_in_three_passes() {
        assert_eq!(slugify("a&amp;#66;c&#x44;"), "abcd");
        // One reference beyond Unicode spoils the decimal pass, the others stand.
        assert_eq!(slugify("&#65;&#1114112;&#x42;"), "65-1114112-b");
        assert_eq!(slugify("a & b;&nosuch;"), "a-b-nosuch");
    }

    #[test]
    fn letters_of_other_scripts_are_transliterated() {
        assert_eq!(slugify("Größe_北京 'x' 1,000"), "grosse-bei-jing-x-1000");
    }
}
