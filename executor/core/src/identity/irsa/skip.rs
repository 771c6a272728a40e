//! The annotation `eks.amazonaws.com/skip-containers`: one record of strict CSV.

use std::collections::BTreeSet;

/// The containers that the annotation's text takes from the webhook, as Go's `encoding/csv` reads the first record: blanks
/// count as part of a name, and with a stray quote nothing is skipped.
pub fn skipped_containers(annotation: &str) -> BTreeSet<String> {
    first_record(annotation).unwrap_or_default().into_iter().collect()
}

/// None: no record, or bad quoting.
fn first_record(text: &str) -> Option<Vec<String>> {
    let mut lines = Lines { rest: text };
    // Empty lines are no records.
    let mut line = lines.by_ref().find(|line| !matches!(line.as_str(), "" | "\n"))?;
    let mut fields = Vec::new();
    loop {
        let Some(quoted) = line.strip_prefix('"') else {
            let (field, rest) = match line.split_once(',') {
                Some((field, rest)) => (field, Some(rest)),
                None => (line.strip_suffix('\n').unwrap_or(&line), None),
            };
            if field.contains('"') {
                return None;
            }
            fields.push(field.to_owned());
            match rest {
                Some(rest) => line = rest.to_owned(),
                None => return Some(fields),
            }
            continue;
        };
        let (field, rest) = quoted_field(quoted.to_owned(), &mut lines)?;
        fields.push(field);
        match rest.strip_prefix(',') {
            Some(rest) => line = rest.to_owned(),
            None => return Some(fields),
        }
    }
}

/// The field after its opening quote, and what follows the closing one: a comma or the end of the line. Such a field may
/// go over lines.
fn quoted_field(mut line: String, lines: &mut Lines<'_>) -> Option<(String, String)> {
    let mut field = String::new();
    loop {
        match line.split_once('"') {
            Some((text, rest)) => {
                field.push_str(text);
                if let Some(rest) = rest.strip_prefix('"') {
                    field.push('"');
                    line = rest.to_owned();
                } else if rest.is_empty() || rest == "\n" || rest.starts_with(',') {
                    return Some((field, rest.to_owned()));
                } else {
                    return None;
                }
            }
            None => {
                field.push_str(&line);
                line = lines.next()?;
            }
        }
    }
}

/// Lines with their end, which is `\n` for `\r\n` too. A last `\r` without `\n` goes.
struct Lines<'a> {
    rest: &'a str,
}

impl Iterator for Lines<'_> {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        let rest = self.rest;
        if rest.is_empty() {
            return None;
        }
        let Some((line, after)) = rest.split_once('\n') else {
            self.rest = "";
            return Some(rest.strip_suffix('\r').unwrap_or(rest).to_owned());
        };
        self.rest = after;
        Some(format!("{}\n", line.strip_suffix('\r').unwrap_or(line)))
    }
}

#[cfg(test)]
mod tests {
    use super::first_record;

    #[test]
    fn records_as_go_reads_them() {
        let cases: &[(&str, Option<&[&str]>)] = &[
            ("", None),
            ("\n\n", None),
            ("\r", None),
            ("a", Some(&["a"])),
            ("a,b", Some(&["a", "b"])),
            ("a, b ", Some(&["a", " b "])),
            ("a,", Some(&["a", ""])),
            (",a", Some(&["", "a"])),
            ("\n\r\na,b\nc", Some(&["a", "b"])),
            ("a\r\n", Some(&["a"])),
            ("a\r", Some(&["a"])),
            ("a\rb", Some(&["a\rb"])),
            ("\"a\",\"b\"", Some(&["a", "b"])),
            ("\"a,b\"", Some(&["a,b"])),
            ("\"a\"\"b\"", Some(&["a\"b"])),
            ("\"a\",", Some(&["a", ""])),
            ("\"a\nb\",c", Some(&["a\nb", "c"])),
            ("\"a\"\n", Some(&["a"])),
            ("\"\"", Some(&[""])),
            ("\"a", None),
            ("\"a\n", None),
            ("\"a\" ,b", None),
            ("a \"b\"", None),
            (" \"a\"", None),
            ("a,b\"", None),
        ];
        for (text, expected) in cases {
            let read = first_record(text);
            let read: Option<Vec<&str>> = read.as_ref().map(|r| r.iter().map(String::as_str).collect());
            assert_eq!(read.as_deref(), *expected, "{text:?}");
        }
    }
}
