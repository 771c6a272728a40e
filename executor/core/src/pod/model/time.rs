//! Times in pod fields (`creationTimestamp`, in templates copied from a cluster).

use crate::pod::python::{Date, DateTime};

/// An ISO 8601 time: the form that Kubernetes writes, and what `isoformat` makes of a Python datetime. The client would
/// also guess at free forms ("Jan 1st"); those are refused.
pub(super) fn parse(text: &str) -> Option<DateTime> {
    let text = text.trim();
    let number = |from: usize, len: usize| {
        let digits = text.get(from..from + len)?;
        digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse::<u16>().ok()).flatten()
    };
    let byte = |at: usize| text.as_bytes().get(at).copied();
    if byte(4) != Some(b'-') || byte(7) != Some(b'-') {
        return None;
    }
    let small = |from: usize| number(from, 2).and_then(|n| u8::try_from(n).ok());
    let date = Date::new(number(0, 4)?, small(5)?, small(8)?)?;
    let midnight = DateTime { date, hour: 0, minute: 0, second: 0, micros: 0, offset: None };
    if text.len() == 10 {
        return Some(midnight);
    }
    if !matches!(byte(10), Some(b'T' | b't' | b' ')) || byte(13) != Some(b':') || byte(16) != Some(b':') {
        return None;
    }
    let (hour, minute, second) = (small(11)?, small(14)?, small(17)?);
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let rest = &text[19..];
    let (micros, zone) = match rest.strip_prefix(['.', ',']) {
        None => (0, rest),
        Some(after) => {
            let end = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
            if end == 0 {
                return None;
            }
            (format!("{:0<6}", &after[..end.min(6)]).parse().ok()?, &after[end..])
        }
    };
    Some(DateTime { hour, minute, second, micros, offset: offset(zone.trim_start())?, ..midnight })
}

/// Minutes east of UTC. The outer None: no zone at all, but something else.
#[expect(clippy::option_option, reason = "no time, a time without zone, a time with one")]
fn offset(zone: &str) -> Option<Option<i16>> {
    match zone {
        "" => Some(None),
        "Z" | "z" | "UTC" => Some(Some(0)),
        _ => {
            let body = zone.strip_prefix(['+', '-'])?;
            let digits: String = body.chars().filter(|c| *c != ':').collect();
            let good = matches!(digits.len(), 2 | 4) && digits.bytes().all(|b| b.is_ascii_digit());
            let minutes = good.then(|| digits[..2].parse::<i16>().ok())?? * 60;
            let minutes = minutes + digits.get(2..4).and_then(|m| m.parse::<i16>().ok()).unwrap_or(0);
            Some(Some(if zone.starts_with('-') { -minutes } else { minutes }))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn iso_times_are_read() {
        let shown = |text| parse(text).map(|t| t.iso('T'));
        assert_eq!(shown("2024-01-01T10:00:00Z").as_deref(), Some("2024-01-01T10:00:00+00:00"));
        assert_eq!(shown("2024-01-01 10:00:00.5-0830").as_deref(), Some("2024-01-01T10:00:00.500000-08:30"));
        assert_eq!(shown("2024-01-01").as_deref(), Some("2024-01-01T00:00:00"));
        assert_eq!(shown("2024-13-01"), None);
        assert_eq!(shown("2024-01-01T10:00:00 o'clock"), None);
    }
}
