//! Writes JSON values as YAML that every reader takes for the same values: YAML 1.1 (kubectl, PyYAML) and 1.2.
//!
//! A text is written plain only if no reader can take it for anything else (`yes`, `1:30`, `0o7`, `null`); one of several
//! lines as a literal block, where each line can stand as it is; otherwise as a JSON string, which is YAML too.

use std::fmt::Write as _;

use serde_json::Value;

/// A document, with a newline at its end.
pub fn write(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => block(value, 0, &mut out),
        Value::Array(items) if !items.is_empty() => block(value, 0, &mut out),
        flat => {
            scalar(flat, 0, &mut out);
            out.push('\n');
        }
    }
    out
}

fn block(value: &Value, indent: usize, out: &mut String) {
    match value {
        Value::Object(map) => {
            for (at, (key, value)) in map.iter().enumerate() {
                // The first key of a map in a list stands behind its dash.
                if at > 0 || !out.ends_with("- ") {
                    out.extend(std::iter::repeat_n(' ', indent));
                }
                text(key, out);
                out.push(':');
                nested(value, indent, out);
            }
        }
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                if at > 0 || !out.ends_with("- ") {
                    out.extend(std::iter::repeat_n(' ', indent));
                }
                out.push_str("- ");
                if is_block(item) {
                    block(item, indent + 2, out);
                } else {
                    scalar(item, indent + 2, out);
                    out.push('\n');
                }
            }
        }
        flat => scalar(flat, indent, out),
    }
}

fn nested(value: &Value, indent: usize, out: &mut String) {
    if is_block(value) {
        out.push('\n');
        block(value, indent + 2, out);
    } else {
        out.push(' ');
        scalar(value, indent + 2, out);
        out.push('\n');
    }
}

fn is_block(value: &Value) -> bool {
    match value {
        Value::Object(map) => !map.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => false,
    }
}

/// `indent`: of the lines of a literal block.
fn scalar(value: &Value, indent: usize, out: &mut String) {
    match value {
        Value::String(string) if indent > 0 && is_block_text(string) => {
            out.push_str("|-");
            for line in string.split('\n') {
                out.push('\n');
                out.extend(std::iter::repeat_n(' ', indent));
                out.push_str(line);
            }
        }
        Value::String(string) => text(string, out),
        // Writing to a String cannot fail. Empty lists and objects are written as in JSON.
        other => _ = write!(out, "{other}"),
    }
}

fn text(string: &str, out: &mut String) {
    if is_plain(string) {
        out.push_str(string);
        return;
    }
    out.push('"');
    for c in string.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            // What YAML does not let stand, or takes for the end of a line.
            c if c.is_control()
                || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}') =>
            {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// Lines that each end with something to see, the first beginning with it: nothing is left to how a reader treats blanks.
fn is_block_text(string: &str) -> bool {
    let stands = |line: &str| {
        !line.is_empty() && !line.ends_with(' ') && line.chars().all(|c| (' '..='~').contains(&c))
    };
    string.contains('\n') && !string.starts_with(' ') && string.split('\n').all(stands)
}

/// Letters first, then letters, digits and `_ - . /`: no number, no date, no indicator. And none of the words that
/// YAML 1.1 reads as something else.
fn is_plain(string: &str) -> bool {
    const WORDS: [&str; 10] = ["y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan"];
    let starts = string.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/');
    let body = string.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/'));
    starts
        && body
        && !WORDS.contains(&string.to_ascii_lowercase().as_str())
        && !string.eq_ignore_ascii_case("inf")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn it_reads_as_it_was_whoever_reads_it() {
        let value = json!({
            "kind": "Pod",
            "labels": {"yes": "no", "a": "1", "date": "2024-01-01", "time": "1:30", "octal": "0755", "empty": ""},
            "list": [[1, [2, 3]], [], {}, {"a": {"b": [{"c": null}]}}, "x: y", "- z", "#c", "null", "~", 1.5, true],
            "odd": ["a\nb\t\u{1}\u{7f}\u{85}\u{2028}", "quote\" back\\", "é 日本 😀", " lead", "trail ", "0x1F", "1e3"],
            "": "empty key", "key: odd": {"nested": []}
        });
        let text = write(&value);
        assert_eq!(serde_saphyr::from_str::<Value>(&text).unwrap(), value, "{text}");
    }

    #[test]
    fn lines_are_written_as_lines_where_nothing_of_them_can_be_lost() {
        let value = json!({"list": ["a: 1\n- b\n#c", {"x": "{\n  'y' : |\n}"}], "no": ["a\n", "\na", " a\nb", "a\t\nb", "é\nb"]});
        let text = write(&value);
        assert_eq!(serde_saphyr::from_str::<Value>(&text).unwrap(), value, "{text}");
        assert!(text.starts_with("list:\n  - |-\n    a: 1\n    - b\n    #c\n  - x: |-\n      {\n"), "{text}");
        assert_eq!(text.matches("|-").count(), 2, "{text}");
    }

    #[test]
    fn a_pod_looks_as_people_write_it() {
        let pod =
            json!({"kind": "Pod", "spec": {"containers": [{"args": ["airflow", "tasks"], "name": "base"}]}});
        let expected = "kind: Pod\nspec:\n  containers:\n    - args:\n        - airflow\n        - tasks\n      name: base\n";
        assert_eq!(write(&pod), expected);
        assert_eq!(write(&json!({})), "{}\n");
    }
}
