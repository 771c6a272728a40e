//! Words for people: spans of time, and counts.

/// `850 ms`, `45 s`, `12 min`, `3 h 5 min`, `2 d 4 h`. A negative span is none.
pub fn span(ms: i64) -> String {
    const SECOND: i64 = 1_000;
    const MINUTE: i64 = 60 * SECOND;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    match ms.max(0) {
        ms if ms < SECOND => format!("{ms} ms"),
        ms if ms < 10 * SECOND => format!("{}.{} s", ms / SECOND, ms % SECOND / 100),
        ms if ms < 2 * MINUTE => format!("{} s", ms / SECOND),
        ms if ms < 2 * HOUR => format!("{} min", ms / MINUTE),
        ms if ms < 2 * DAY => format!("{} h {} min", ms / HOUR, ms % HOUR / MINUTE),
        ms => format!("{} d {} h", ms / DAY, ms % DAY / HOUR),
    }
}

/// [`span`] of a setting.
pub fn span_of(ms: u64) -> String {
    span(i64::try_from(ms).unwrap_or(i64::MAX))
}

/// `1 launch`, `2 launches`.
pub fn count(number: usize, one: &str, many: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {many}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_as_exact_as_people_need() {
        let spans = [-5, 850, 4_250, 45_000, 720_000, 11_100_000, 187_200_000].map(span);
        assert_eq!(spans, ["0 ms", "850 ms", "4.2 s", "45 s", "12 min", "3 h 5 min", "2 d 4 h"]);
    }
}
