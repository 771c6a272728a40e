//! Times that a pickled object of the Kubernetes client holds: `datetime` with the zones that Python, the client's
//! `dateutil` and Airflow's `pendulum` give it. Each is read from what the pickle says of it.

use std::fmt::Write;

use super::value::{Arena, Id, Object, Value};

/// `isoformat()` of a date or a datetime: in UTC, at a fixed offset, or without a zone. None for what is neither, and
/// for a zone that only a time zone database can tell.
pub(super) fn iso(arena: &Arena<'_>, object: &Object) -> Option<String> {
    let args = arena.args(object);
    match arena.global(object.class)? {
        ("datetime", "date") => match arena.get(*args.first()?) {
            Value::Bytes(bytes) if args.len() == 1 => packed_date(bytes),
            _ => None,
        },
        ("datetime", "datetime") => {
            let Value::Bytes(bytes) = arena.get(*args.first()?) else { return None };
            let (date, time) = bytes.split_at_checked(4)?;
            let [hour, minute, second, micros @ ..] = time else { return None };
            let [high, middle, low] = *micros else { return None };
            let micros = u32::from_be_bytes([0, high, middle, low]);
            let clock = [*hour, *minute, *second].map(i128::from);
            with_zone(arena, packed_date(date)?, clock, micros, args.get(1))
        }
        ("pendulum.datetime", "DateTime") => {
            let numbers = args.iter().take(7).map(|id| int(arena, *id)).collect::<Option<Vec<_>>>()?;
            let [year, month, day, hour, minute, second, micros] = *numbers else { return None };
            let date = format!("{year:04}-{month:02}-{day:02}");
            with_zone(arena, date, [hour, minute, second], u32::try_from(micros).ok()?, args.get(7))
        }
        _ => None,
    }
}

/// Of a datetime's bytes: the year in two, month, day. The month's highest bit is `fold`, which `isoformat()` leaves out.
fn packed_date(bytes: &[u8]) -> Option<String> {
    let [high, low, month, day] = *bytes else { return None };
    Some(format!("{:04}-{:02}-{day:02}", u16::from_be_bytes([high, low]), month & 0x7f))
}

fn with_zone(
    arena: &Arena<'_>,
    date: String,
    [hour, minute, second]: [i128; 3],
    micros: u32,
    zone: Option<&Id>,
) -> Option<String> {
    let mut text = date;
    let _ = write!(text, "T{hour:02}:{minute:02}:{second:02}");
    if micros != 0 {
        let _ = write!(text, ".{micros:06}");
    }
    if let Some(zone) = zone.filter(|zone| !matches!(arena.get(**zone), Value::None)) {
        let seconds = offset(arena, *zone).filter(|seconds| seconds.abs() < 86_400)?;
        let sign = if seconds < 0 { '-' } else { '+' };
        let minutes = seconds.abs() / 60;
        let _ = write!(text, "{sign}{:02}:{:02}", minutes / 60, minutes % 60);
    }
    Some(text)
}

/// Seconds that a zone is ahead of UTC, the whole year.
fn offset(arena: &Arena<'_>, zone: Id) -> Option<i128> {
    let Value::Object(zone) = arena.get(zone) else { return None };
    let args = arena.args(zone);
    let state = |name: &str| match arena.get(zone.state?) {
        Value::Dict(pairs) => arena.entry(pairs, name),
        _ => None,
    };
    let Some(class) = arena.global(zone.class) else { return named_utc(arena, zone) };
    match class {
        ("datetime", "timezone") => timedelta(arena, *args.first()?),
        ("dateutil.tz.tz", "tzutc") => Some(0),
        ("dateutil.tz.tz", "tzoffset") => timedelta(arena, state("_offset")?),
        // The zone of the machine that wrote the row; with daylight saving it depends on the machine that reads.
        ("dateutil.tz.tz", "tzlocal") if matches!(arena.get(state("_hasdst")?), Value::Bool(false)) => {
            timedelta(arena, state("_std_offset")?)
        }
        ("pendulum.tz.timezone", "FixedTimezone") => int(arena, *args.first()?),
        _ => None,
    }
}

/// `getattr(ZoneInfo, "_unpickle")("UTC", True)`: how the standard library, and `pendulum` above it, pickle a zone.
fn named_utc(arena: &Arena<'_>, zone: &Object) -> Option<i128> {
    let Value::Object(method) = arena.get(zone.class) else { return None };
    let ("builtins" | "__builtin__", "getattr") = arena.global(method.class)? else { return None };
    let &[owner, name] = arena.args(method) else { return None };
    let named =
        matches!(arena.global(owner)?, ("zoneinfo", "ZoneInfo") | ("pendulum.tz.timezone", "Timezone"))
            && arena.text(name)? == "_unpickle";
    let utc = matches!(arena.text(*arena.args(zone).first()?)?, "UTC" | "Etc/UTC");
    (named && utc).then_some(0)
}

/// Seconds of `timedelta(days, seconds, 0)`.
fn timedelta(arena: &Arena<'_>, id: Id) -> Option<i128> {
    let Value::Object(object) = arena.get(id) else { return None };
    let ("datetime", "timedelta") = arena.global(object.class)? else { return None };
    let args = arena.args(object);
    let part = |at: usize| args.get(at).map_or(Some(0), |id| int(arena, *id));
    part(0)?.checked_mul(86_400)?.checked_add(part(1)?)
}

fn int(arena: &Arena<'_>, id: Id) -> Option<i128> {
    match arena.get(id) {
        Value::Int(i) => Some(*i),
        _ => None,
    }
}
