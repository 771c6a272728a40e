//! Which objects of a list or watch, and how a query says so.

use std::borrow::Cow;
use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What need not be escaped in the value of a query (RFC 3986): unreserved, and what names of labels have.
const ESCAPED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/').remove(b'!');

/// Chosen by the API server, in the words of Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Selector {
    /// None is left out.
    All,
    /// `labelSelector`: `a=1,b!=2,c in (x,y),!d`.
    Labels(Cow<'static, str>),
    /// `fieldSelector`: `type=Warning,reason!=Unsupported`.
    Fields(&'static str),
}

impl Selector {
    pub(crate) fn labels(text: impl Into<Cow<'static, str>>) -> Self {
        Self::Labels(text.into())
    }
}

/// What comes after the first parameter of a query.
impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => Ok(()),
            Self::Labels(text) => write!(f, "&labelSelector={}", escaped(text)),
            Self::Fields(text) => write!(f, "&fieldSelector={}", escaped(text)),
        }
    }
}

/// The value of a query's parameter.
pub(crate) fn escaped(text: &str) -> impl fmt::Display {
    utf8_percent_encode(text, ESCAPED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selector_is_one_parameter_whatever_it_says() {
        assert_eq!(Selector::All.to_string(), "");
        let labels = Selector::labels("a.b/c=1,!d,e!=2,f in (x,y)");
        assert_eq!(labels.to_string(), "&labelSelector=a.b/c%3D1%2C!d%2Ce!%3D2%2Cf%20in%20%28x%2Cy%29");
        let fields = Selector::Fields("status.phase!=Failed");
        assert_eq!(fields.to_string(), "&fieldSelector=status.phase!%3DFailed");
        assert_eq!(escaped("a&b=+").to_string(), "a%26b%3D%2B");
    }
}
