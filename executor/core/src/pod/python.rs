//! Values as Python sees them. Templates go through PyYAML and the Kubernetes client's models before Airflow merges
//! them, and both lean on Python: `str(True)` is "True", an empty list is false, `1 == True` as a mapping key.

use std::fmt::Write;

use serde_json::{Number, Value};
use unicode_properties::{GeneralCategoryGroup, UnicodeGeneralCategory};

/// A value of Python, as far as YAML or JSON can make one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Py {
    /// `None`.
    None,
    /// `bool`.
    Bool(bool),
    /// `int`; more than 127 bits are refused when read.
    Int(i128),
    /// `float`.
    Float(f64),
    /// `str`.
    Str(String),
    /// `list`.
    List(Vec<Py>),
    /// `dict` in insertion order, keys unique by Python's `==`.
    Dict(Vec<(Py, Py)>),
    /// `datetime.date`.
    Date(Date),
    /// `datetime.datetime`.
    DateTime(DateTime),
}

/// `datetime.date`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Date {
    pub(crate) year: u16,
    pub(crate) month: u8,
    pub(crate) day: u8,
}

/// `datetime.datetime`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DateTime {
    pub(crate) date: Date,
    pub(crate) hour: u8,
    pub(crate) minute: u8,
    pub(crate) second: u8,
    pub(crate) micros: u32,
    /// Minutes east of UTC; None: a naive one.
    pub(crate) offset: Option<i16>,
}

impl Date {
    /// None when the calendar has no such day (Python raises ValueError).
    pub(crate) fn new(year: u16, month: u8, day: u8) -> Option<Self> {
        let date = jiff::civil::Date::new(
            i16::try_from(year).ok()?,
            i8::try_from(month).ok()?,
            i8::try_from(day).ok()?,
        );
        (year >= 1 && date.is_ok()).then_some(Self { year, month, day })
    }

    /// `date.isoformat()`, also `str(date)`.
    pub(crate) fn iso(self) -> String {
        format!("{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

impl DateTime {
    /// `isoformat()` with 'T' between date and time; `str()` has a space there.
    pub(crate) fn iso(self, between: char) -> String {
        let mut text = self.date.iso();
        let _ = write!(text, "{between}{:02}:{:02}:{:02}", self.hour, self.minute, self.second);
        if self.micros != 0 {
            let _ = write!(text, ".{:06}", self.micros);
        }
        if let Some(offset) = self.offset {
            let sign = if offset < 0 { '-' } else { '+' };
            let _ = write!(text, "{sign}{:02}:{:02}", offset.abs() / 60, offset.abs() % 60);
        }
        text
    }
}

/// What `int(value)` does.
#[derive(Debug, PartialEq)]
pub(crate) enum AsInt {
    /// A number.
    Int(i128),
    /// TypeError: the Kubernetes client then keeps the value as it is.
    Keep,
    /// ValueError or OverflowError: nobody catches it.
    Invalid,
}

impl Py {
    /// `bool(value)`.
    pub(crate) fn truthy(&self) -> bool {
        match self {
            Self::None => false,
            Self::Bool(b) => *b,
            Self::Int(i) => *i != 0,
            Self::Float(f) => *f != 0.0,
            Self::Str(s) => !s.is_empty(),
            Self::List(items) => !items.is_empty(),
            Self::Dict(items) => !items.is_empty(),
            Self::Date(_) | Self::DateTime(_) => true,
        }
    }

    /// `str(value)`.
    pub(crate) fn to_text(&self) -> String {
        match self {
            Self::Str(s) => s.clone(),
            Self::Date(date) => date.iso(),
            Self::DateTime(time) => time.iso(' '),
            other => other.repr(),
        }
    }

    /// `repr(value)`.
    fn repr(&self) -> String {
        match self {
            Self::None => "None".into(),
            Self::Bool(true) => "True".into(),
            Self::Bool(false) => "False".into(),
            Self::Int(i) => i.to_string(),
            Self::Float(f) => float_repr(*f),
            Self::Str(s) => str_repr(s),
            Self::List(items) => format!("[{}]", items.iter().map(Self::repr).collect::<Vec<_>>().join(", ")),
            Self::Dict(items) => {
                let items = items.iter().map(|(k, v)| format!("{}: {}", k.repr(), v.repr()));
                format!("{{{}}}", items.collect::<Vec<_>>().join(", "))
            }
            Self::Date(d) => format!("datetime.date({}, {}, {})", d.year, d.month, d.day),
            Self::DateTime(t) => datetime_repr(t),
        }
    }

    /// `int(value)`.
    pub(crate) fn to_int(&self) -> AsInt {
        match self {
            Self::Bool(b) => AsInt::Int(i128::from(*b)),
            Self::Int(i) => AsInt::Int(*i),
            #[expect(
                clippy::cast_possible_truncation,
                reason = "int() of a float truncates; the bound is checked"
            )]
            Self::Float(f) if f.abs() < 1e37 => AsInt::Int(*f as i128),
            Self::Float(_) => AsInt::Invalid,
            Self::Str(s) => parse_int(s).map_or(AsInt::Invalid, AsInt::Int),
            Self::None | Self::List(_) | Self::Dict(_) | Self::Date(_) | Self::DateTime(_) => AsInt::Keep,
        }
    }

    /// What `json.dumps` makes of it after the client's `sanitize_for_serialization` (dates become ISO texts).
    /// None: not a number of JSON (nan, inf, beyond 64 bits).
    pub(crate) fn to_json(&self) -> Option<Value> {
        Some(match self {
            Self::None => Value::Null,
            Self::Bool(b) => Value::Bool(*b),
            Self::Int(i) => Value::Number(int_json(*i)?),
            Self::Float(f) => Value::Number(Number::from_f64(*f)?),
            Self::Str(s) => Value::String(s.clone()),
            Self::List(items) => Value::Array(items.iter().map(Self::to_json).collect::<Option<_>>()?),
            Self::Dict(items) => {
                let items = items.iter().map(|(k, v)| Some((k.json_key(), v.to_json()?)));
                Value::Object(items.collect::<Option<_>>()?)
            }
            Self::Date(date) => Value::String(date.iso()),
            Self::DateTime(time) => Value::String(time.iso('T')),
        })
    }

    /// As a key of a JSON object, as `json.dumps` writes keys that are no strings.
    pub(crate) fn json_key(&self) -> String {
        match self {
            Self::None => "null".into(),
            Self::Bool(b) => b.to_string(),
            other => other.to_text(),
        }
    }

    /// `==` between two mapping keys: numbers compare across bool, int and float.
    pub(crate) fn same_key(&self, other: &Self) -> bool {
        match (self.number(), other.number()) {
            (Some(a), Some(b)) => a == b,
            _ => self == other,
        }
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "keys beyond 2^53 that differ by less than a double shows: not in a pod"
    )]
    fn number(&self) -> Option<f64> {
        match self {
            Self::Bool(b) => Some(f64::from(u8::from(*b))),
            Self::Int(i) => Some(*i as f64),
            Self::Float(f) => Some(*f),
            _ => None,
        }
    }
}

impl From<&Value> for Py {
    fn from(value: &Value) -> Self {
        match value {
            Value::Null => Self::None,
            Value::Bool(b) => Self::Bool(*b),
            Value::Number(n) => {
                n.as_i128().map(Self::Int).or_else(|| n.as_f64().map(Self::Float)).unwrap_or(Self::None)
            }
            Value::String(s) => Self::Str(s.clone()),
            Value::Array(items) => Self::List(items.iter().map(Self::from).collect()),
            Value::Object(items) => {
                Self::Dict(items.iter().map(|(k, v)| (Self::Str(k.clone()), Self::from(v))).collect())
            }
        }
    }
}

/// An integer as a JSON number; None beyond 64 bits.
pub(crate) fn int_json(i: i128) -> Option<Number> {
    Number::from_i128(i)
}

/// The zeros of Unicode's decimal digits (category Nd), each followed by its one to nine.
const DIGIT_ZEROS: [u32; 66] = [
    0x30, 0x660, 0x6f0, 0x7c0, 0x966, 0x9e6, 0xa66, 0xae6, 0xb66, 0xbe6, 0xc66, 0xce6, 0xd66, 0xde6, 0xe50,
    0xed0, 0xf20, 0x1040, 0x1090, 0x17e0, 0x1810, 0x1946, 0x19d0, 0x1a80, 0x1a90, 0x1b50, 0x1bb0, 0x1c40,
    0x1c50, 0xa620, 0xa8d0, 0xa900, 0xa9d0, 0xa9f0, 0xaa50, 0xabf0, 0xff10, 0x104a0, 0x10d30, 0x11066,
    0x110f0, 0x11136, 0x111d0, 0x112f0, 0x11450, 0x114d0, 0x11650, 0x116c0, 0x11730, 0x118e0, 0x11950,
    0x11c50, 0x11d50, 0x11da0, 0x16a60, 0x16ac0, 0x16b50, 0x1d7ce, 0x1d7d8, 0x1d7e2, 0x1d7ec, 0x1d7f6,
    0x1e140, 0x1e2f0, 0x1e950, 0x1fbf0,
];

/// The value of a decimal digit of any script.
fn digit(c: char) -> Option<char> {
    let zero = DIGIT_ZEROS.iter().find(|zero| (**zero..**zero + 10).contains(&(c as u32)))?;
    char::from_digit(c as u32 - zero, 10)
}

/// `int(text)`: blanks around, a sign, single underscores between digits, which may be of any script.
pub(crate) fn parse_int(text: &str) -> Option<i128> {
    let text = text.trim();
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if digits.starts_with('_') || digits.ends_with('_') || digits.contains("__") {
        return None;
    }
    let digits: String = digits.chars().filter(|c| *c != '_').map(digit).collect::<Option<_>>()?;
    let value: i128 = digits.parse().ok()?;
    Some(if negative { -value } else { value })
}

/// `repr(float)`: the shortest digits that read back, in positional form from 1e-4 up to 1e16.
fn float_repr(f: f64) -> String {
    if f.is_nan() {
        return "nan".into();
    }
    if f.is_infinite() {
        return if f > 0.0 { "inf".into() } else { "-inf".into() };
    }
    let scientific = format!("{f:e}");
    let Some((mantissa, exponent)) = scientific.split_once('e') else { return scientific };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if f != 0.0 && !(-4..16).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{mantissa}e{sign}{:02}", exponent.abs());
    }
    let positional = format!("{f}");
    if positional.contains('.') { positional } else { format!("{positional}.0") }
}

/// `repr(str)`: single quotes unless the text has some and no double ones.
fn str_repr(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut out = String::with_capacity(text.len() + 2);
    out.push(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => {
                out.push('\\');
                out.push(c);
            }
            c if is_printable(c) => out.push(c),
            c => {
                let _ = match u32::from(c) {
                    code @ ..=0xff => write!(out, "\\x{code:02x}"),
                    code @ ..=0xffff => write!(out, "\\u{code:04x}"),
                    code => write!(out, "\\U{code:08x}"),
                };
            }
        }
    }
    out.push(quote);
    out
}

/// `str.isprintable` of one character: other than a control, a format, a separator (but the blank), or without a meaning.
fn is_printable(c: char) -> bool {
    match c.general_category_group() {
        GeneralCategoryGroup::Other | GeneralCategoryGroup::Separator => c == ' ',
        _ => true,
    }
}

fn datetime_repr(t: &DateTime) -> String {
    let mut fields = vec![
        t.date.year.to_string(),
        t.date.month.to_string(),
        t.date.day.to_string(),
        t.hour.to_string(),
        t.minute.to_string(),
    ];
    if t.second != 0 || t.micros != 0 {
        fields.push(t.second.to_string());
    }
    if t.micros != 0 {
        fields.push(t.micros.to_string());
    }
    match t.offset {
        None => {}
        Some(0) => fields.push("tzinfo=datetime.timezone.utc".into()),
        Some(offset) => {
            // A timedelta holds a negative offset as -1 day plus seconds.
            let seconds = i32::from(offset) * 60;
            let delta = if seconds < 0 {
                format!("days=-1, seconds={}", seconds + 86_400)
            } else {
                format!("seconds={seconds}")
            };
            fields.push(format!("tzinfo=datetime.timezone(datetime.timedelta({delta}))"));
        }
    }
    format!("datetime.datetime({})", fields.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_written_as_python_writes_them() {
        let cases = [(1.5, "1.5"), (1.0, "1.0"), (0.1, "0.1"), (1e16, "1e+16"), (1e15, "1000000000000000.0")];
        let more =
            [(1e-4, "0.0001"), (1e-5, "1e-05"), (-0.0, "-0.0"), (1.5e300, "1.5e+300"), (123e20, "1.23e+22")];
        for (value, text) in cases.into_iter().chain(more) {
            assert_eq!(Py::Float(value).to_text(), text);
        }
    }

    #[test]
    fn containers_are_written_as_their_repr() {
        let list = Py::List(vec![Py::Str("it's".into()), Py::Bool(true), Py::None]);
        let dict = Py::Dict(vec![(Py::Str("a\n".into()), list)]);
        assert_eq!(dict.to_text(), r#"{'a\n': ["it's", True, None]}"#);
        let odd = Py::List(vec![Py::Str("é 日😀\u{7f}\u{a0}\u{ad}\u{200b}\u{feff}\u{e0001}".into())]);
        assert_eq!(odd.to_text(), r"['é 日😀\x7f\xa0\xad\u200b\ufeff\U000e0001']");
    }

    #[test]
    fn int_takes_what_python_takes() {
        assert_eq!(Py::Str(" +1_000 ".into()).to_int(), AsInt::Int(1000));
        assert_eq!(Py::Str("\u{663}\u{ff14}".into()).to_int(), AsInt::Int(34));
        assert_eq!(Py::Str("1__0".into()).to_int(), AsInt::Invalid);
        assert_eq!(Py::Float(-1.9).to_int(), AsInt::Int(-1));
        assert_eq!(Py::Float(f64::INFINITY).to_int(), AsInt::Invalid);
        assert_eq!(Py::List(vec![]).to_int(), AsInt::Keep);
    }
}
