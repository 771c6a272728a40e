//! Plain scalars of YAML 1.1, resolved and constructed as PyYAML's SafeLoader does. Kubernetes' own YAML is 1.2: there
//! `yes` is a text and 0755 is 755, here they are true and 493.

use crate::pod::python::{Date, DateTime, Py};

/// Tag of a plain scalar without an explicit one, without the `tag:yaml.org,2002:` prefix.
pub(super) fn implicit_tag(text: &str) -> &'static str {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => "null",
        "<<" => "merge",
        "=" => "value",
        _ if bool_of(text).is_some() => "bool",
        _ if is_float(text) => "float",
        _ if is_int(text) => "int",
        _ if timestamp_parts(text, true).is_some() => "timestamp",
        _ => "str",
    }
}

/// The value of a scalar with one of SafeLoader's tags. None: Python raises ValueError.
pub(super) fn construct(tag: &str, text: &str) -> Option<Py> {
    match tag {
        "null" => Some(Py::None),
        "bool" => bool_of(text).map(Py::Bool),
        "int" => int_of(text).map(Py::Int),
        "float" => float_of(text).map(Py::Float),
        "timestamp" => timestamp_of(text),
        "str" => Some(Py::Str(text.to_owned())),
        _ => None,
    }
}

/// Three spellings of each word: lower, Capital, UPPER.
fn bool_of(text: &str) -> Option<bool> {
    if text.is_empty() || text.len() > 5 || !text.is_ascii() {
        return None;
    }
    let lower = text.to_ascii_lowercase();
    let rest = &text[1..];
    let first_upper = text.starts_with(|c: char| c.is_ascii_uppercase());
    let spelled = text == lower
        || (first_upper && (rest == &lower[1..] || rest.bytes().all(|b| b.is_ascii_uppercase())));
    match lower.as_str() {
        "yes" | "true" | "on" if spelled => Some(true),
        "no" | "false" | "off" if spelled => Some(false),
        _ => None,
    }
}

fn unsigned(text: &str) -> &str {
    text.strip_prefix(['-', '+']).unwrap_or(text)
}

fn all(text: &str, set: impl Fn(u8) -> bool) -> bool {
    !text.is_empty() && text.bytes().all(set)
}

fn digit_or_underscore(b: u8) -> bool {
    b.is_ascii_digit() || b == b'_'
}

/// `:59` groups of a number to base 60.
fn is_sexagesimal_tail(text: &str) -> bool {
    text.strip_prefix(':').is_some_and(|groups| {
        groups.split(':').all(|g| match g.as_bytes() {
            [a] => a.is_ascii_digit(),
            [a, b] => (b'0'..=b'5').contains(a) && b.is_ascii_digit(),
            _ => false,
        })
    })
}

fn is_int(text: &str) -> bool {
    let body = unsigned(text);
    if let Some(digits) = body.strip_prefix("0b") {
        return all(digits, |b| matches!(b, b'0' | b'1' | b'_'));
    }
    if let Some(digits) = body.strip_prefix("0x") {
        return all(digits, |b| b.is_ascii_hexdigit() || b == b'_');
    }
    if let Some(digits) = body.strip_prefix('0') {
        return digits.is_empty() || all(digits, |b| matches!(b, b'0'..=b'7' | b'_'));
    }
    if !body.starts_with(|c: char| c.is_ascii_digit()) {
        return false;
    }
    match body.find(':') {
        None => all(body, digit_or_underscore),
        Some(at) => all(&body[..at], digit_or_underscore) && is_sexagesimal_tail(&body[at..]),
    }
}

fn is_float(text: &str) -> bool {
    let body = unsigned(text);
    if matches!(body, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return true;
    }
    let Some((whole, rest)) = body.split_once('.') else { return false };
    if whole.is_empty() {
        // A sign before the point makes it a text: PyYAML's rule has none there.
        return body.len() == text.len()
            && rest.starts_with(|c: char| c.is_ascii_digit())
            && is_fraction_with_exponent(rest);
    }
    if !whole.starts_with(|c: char| c.is_ascii_digit()) {
        return false;
    }
    match whole.find(':') {
        None => all(whole, digit_or_underscore) && is_fraction_with_exponent(rest),
        Some(at) => {
            all(&whole[..at], digit_or_underscore)
                && is_sexagesimal_tail(&whole[at..])
                && rest.bytes().all(digit_or_underscore)
        }
    }
}

/// `[0-9_]*` and an exponent that must carry its sign: 1.5e3 is a text.
fn is_fraction_with_exponent(rest: &str) -> bool {
    match rest.find(['e', 'E']) {
        None => rest.bytes().all(digit_or_underscore),
        Some(at) => {
            let exponent = &rest[at + 1..];
            rest[..at].bytes().all(digit_or_underscore)
                && exponent.starts_with(['-', '+'])
                && all(&exponent[1..], |b| b.is_ascii_digit())
        }
    }
}

fn int_of(text: &str) -> Option<i128> {
    let text = text.replace('_', "");
    let body = unsigned(&text);
    let value = if body == "0" {
        0
    } else if let Some(digits) = body.strip_prefix("0b") {
        i128::from_str_radix(digits, 2).ok()?
    } else if let Some(digits) = body.strip_prefix("0x") {
        i128::from_str_radix(digits, 16).ok()?
    } else if body.starts_with('0') {
        i128::from_str_radix(body, 8).ok()?
    } else if body.contains(':') {
        let mut sum: i128 = 0;
        for group in body.split(':') {
            sum = sum.checked_mul(60)?.checked_add(crate::pod::python::parse_int(group)?)?;
        }
        sum
    } else {
        crate::pod::python::parse_int(body)?
    };
    Some(if text.starts_with('-') { -value } else { value })
}

fn float_of(text: &str) -> Option<f64> {
    let text = text.replace('_', "").to_ascii_lowercase();
    let body = unsigned(&text);
    let value = match body {
        ".inf" => f64::INFINITY,
        ".nan" => f64::NAN,
        _ if body.contains(':') => {
            body.split(':').map(|g| g.parse::<f64>().ok()).try_fold(0.0, |sum, g| Some(sum * 60.0 + g?))?
        }
        _ => body.parse().ok()?,
    };
    Some(if text.starts_with('-') { -value } else { value })
}

/// The fields of a timestamp as texts.
struct Timestamp<'a> {
    date: [&'a str; 3],
    time: Option<([&'a str; 3], &'a str, &'a str)>,
}

/// Splits by PyYAML's two patterns: a bare date has two-digit fields, one with a time may have one-digit ones.
/// With an explicit tag (`implicit` false) only the second, laxer pattern counts.
fn timestamp_parts(text: &str, implicit: bool) -> Option<Timestamp<'_>> {
    let digits =
        |s: &str, from: usize, to: usize| (from..=to).contains(&s.len()) && all(s, |b| b.is_ascii_digit());
    let date_end = text.find(['T', 't', ' ', '\t']).unwrap_or(text.len());
    let mut fields = text[..date_end].split('-');
    let date = [fields.next()?, fields.next()?, fields.next()?];
    if fields.next().is_some() || !digits(date[0], 4, 4) || !digits(date[1], 1, 2) || !digits(date[2], 1, 2) {
        return None;
    }
    let rest = &text[date_end..];
    if rest.is_empty() {
        let strict = date[1].len() == 2 && date[2].len() == 2;
        return (strict || !implicit).then_some(Timestamp { date, time: None });
    }
    let rest = match rest.strip_prefix(['T', 't']) {
        Some(after) => after,
        None => rest.trim_start_matches([' ', '\t']),
    };
    let clock_end = rest.find(|c: char| !c.is_ascii_digit() && c != ':').unwrap_or(rest.len());
    let mut fields = rest[..clock_end].split(':');
    let clock = [fields.next()?, fields.next()?, fields.next()?];
    if fields.next().is_some()
        || !digits(clock[0], 1, 2)
        || !digits(clock[1], 2, 2)
        || !digits(clock[2], 2, 2)
    {
        return None;
    }
    let mut rest = &rest[clock_end..];
    let mut fraction = "";
    if let Some(after) = rest.strip_prefix('.') {
        let end = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
        (fraction, rest) = after.split_at(end);
    }
    let zone = rest.trim_start_matches([' ', '\t']);
    if zone.is_empty() && !rest.is_empty() {
        return None;
    }
    let good = zone.is_empty() || zone == "Z" || {
        let body = zone.strip_prefix(['-', '+'])?;
        let (hours, minutes) = body.split_once(':').unwrap_or((body, "00"));
        digits(hours, 1, 2) && digits(minutes, 2, 2)
    };
    good.then_some(Timestamp { date, time: Some((clock, fraction, zone)) })
}

fn timestamp_of(text: &str) -> Option<Py> {
    let parts = timestamp_parts(text, false)?;
    let date =
        Date::new(parts.date[0].parse().ok()?, parts.date[1].parse().ok()?, parts.date[2].parse().ok()?)?;
    let Some((clock, fraction, zone)) = parts.time else { return Some(Py::Date(date)) };
    let [hour, minute, second] = [clock[0].parse().ok()?, clock[1].parse().ok()?, clock[2].parse().ok()?];
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let micros = format!("{:0<6}", &fraction[..fraction.len().min(6)]).parse().ok()?;
    let offset = match zone {
        "" => None,
        "Z" => Some(0),
        _ => {
            let (hours, minutes) = zone[1..].split_once(':').unwrap_or((&zone[1..], "0"));
            let offset = hours.parse::<i16>().ok()? * 60 + minutes.parse::<i16>().ok()?;
            if offset >= 24 * 60 {
                return None;
            }
            Some(if zone.starts_with('-') { -offset } else { offset })
        }
    };
    Some(Py::DateTime(DateTime { date, hour, minute, second, micros, offset }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As text after SafeLoader and `str()`; made with PyYAML 6.0.
    fn shown(text: &str) -> String {
        construct(implicit_tag(text), text).map_or("ValueError".into(), |v| v.to_text())
    }

    #[test]
    fn plain_scalars_resolve_as_yaml_1_1() {
        let cases = [
            ("yes", "True"),
            ("oN", "oN"),
            ("OFF", "False"),
            ("y", "y"),
            ("ü", "ü"),
            ("0755", "493"),
            ("0o17", "0o17"),
            ("08", "08"),
            ("0b101", "5"),
            ("0x1F", "31"),
            ("1_000", "1000"),
            ("1:30", "90"),
            ("190:20:30", "685230"),
            ("1:60", "1:60"),
            ("1.10", "1.1"),
            ("1e3", "1e3"),
            ("1.5e+3", "1500.0"),
            (".5", "0.5"),
            ("-.5", "-.5"),
            ("1.", "1.0"),
            ("1:30.5", "90.5"),
            ("-.INF", "-inf"),
            (".nan", "nan"),
            ("~", "None"),
            ("Null", "None"),
            ("2024-01-01", "2024-01-01"),
            ("2024-1-1", "2024-1-1"),
            ("2024-02-30", "ValueError"),
            ("2024-1-1 1:02:03.5 +01:30", "2024-01-01 01:02:03.500000+01:30"),
            ("2024-01-01T10:00:00Z", "2024-01-01 10:00:00+00:00"),
            ("0b_", "ValueError"),
        ];
        for (text, want) in cases {
            assert_eq!(shown(text), want, "{text}");
        }
    }
}
