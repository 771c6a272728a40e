//! How one own setting is read and shown, and the macro that makes struct, default and manual from one text.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::secret::Secret;

/// What a value is written as in TOML.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `"text"`.
    Text,
    /// `32`.
    Number,
    /// `true`.
    Flag,
}

/// A type of setting.
pub trait Setting: Sized {
    /// In TOML.
    const KIND: Kind;
    /// From the text of a variable, a flag or a TOML value.
    fn parse(text: &str) -> Result<Self, String>;
    /// For people; never a secret.
    fn show(&self) -> String;
}

macro_rules! whole_number {
    ($($ty:ty),+) => {$(
        impl Setting for $ty {
            const KIND: Kind = Kind::Number;
            fn parse(text: &str) -> Result<Self, String> {
                text.trim().parse().map_err(|_| format!("`{text}` is not a whole number from 0 to {}", <$ty>::MAX))
            }
            fn show(&self) -> String {
                self.to_string()
            }
        }
    )+};
}
whole_number!(u32, u64);

impl Setting for bool {
    const KIND: Kind = Kind::Flag;
    fn parse(text: &str) -> Result<Self, String> {
        text.trim().parse().map_err(|_| format!("`{text}` is neither true nor false"))
    }
    fn show(&self) -> String {
        self.to_string()
    }
}

impl Setting for String {
    const KIND: Kind = Kind::Text;
    fn parse(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }
    fn show(&self) -> String {
        self.clone()
    }
}

impl Setting for PathBuf {
    const KIND: Kind = Kind::Text;
    fn parse(text: &str) -> Result<Self, String> {
        Ok(Self::from(text))
    }
    fn show(&self) -> String {
        self.display().to_string()
    }
}

impl Setting for SocketAddr {
    const KIND: Kind = Kind::Text;
    fn parse(text: &str) -> Result<Self, String> {
        text.trim().parse().map_err(|_| format!("`{text}` is not an address and port such as 0.0.0.0:9190"))
    }
    fn show(&self) -> String {
        self.to_string()
    }
}

impl Setting for Secret {
    const KIND: Kind = Kind::Text;
    fn parse(text: &str) -> Result<Self, String> {
        Ok(Self::new(text))
    }
    fn show(&self) -> String {
        self.masked_url()
    }
}

/// An enum whose values are words.
macro_rules! words {
    ($(#[doc = $doc:literal])+ $name:ident { $($(#[doc = $vdoc:literal])+ $variant:ident = $word:literal,)+ }) => {
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[doc = $vdoc])+ $variant,)+ }
        impl $crate::config::setting::Setting for $name {
            const KIND: $crate::config::setting::Kind = $crate::config::setting::Kind::Text;
            fn parse(text: &str) -> Result<Self, String> {
                match text.trim() {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(format!("`{text}` is none of {}", [$($word),+].join(", "))),
                }
            }
            fn show(&self) -> String {
                match self { $(Self::$variant => $word.to_owned(),)+ }
            }
        }
    };
}

/// What the manual says about one setting.
#[derive(Clone, Copy, Debug)]
pub struct Manual {
    /// Section of windlass.toml.
    pub section: &'static str,
    /// Field; with `-` for `_` it is the key.
    pub field: &'static str,
    /// The doc comment.
    pub doc: &'static str,
    /// In TOML.
    pub kind: Kind,
}

impl Manual {
    /// As written in windlass.toml.
    pub fn key(&self) -> String {
        self.field.replace('_', "-")
    }

    /// `section.key`.
    pub fn dotted(&self) -> String {
        format!("{}.{}", self.section, self.key())
    }

    /// The environment variable.
    pub fn variable(&self) -> String {
        format!("WINDLASS__{}__{}", self.section, self.field).to_uppercase()
    }
}

macro_rules! settings {
    ($(
        $(#[doc = $section_doc:literal])+
        $section:ident: $Section:ident {
            $($(#[doc = $doc:literal])+ $field:ident: $ty:ty = $default:expr,)+
        }
    )+) => {
        $(
            $(#[doc = $section_doc])+
            #[derive(Clone, Debug)]
            pub struct $Section { $($(#[doc = $doc])+ pub $field: $ty,)+ }
            impl Default for $Section {
                fn default() -> Self {
                    Self { $($field: $default,)+ }
                }
            }
        )+

        /// Windlass's own settings: windlass.toml and `WINDLASS__SECTION__KEY`.
        #[derive(Clone, Debug, Default)]
        pub struct Settings { $($(#[doc = $section_doc])+ pub $section: $Section,)+ }

        /// Sections and what they are about, in the order of the page.
        pub const SECTIONS: &[(&str, &str)] = &[$((stringify!($section), concat!($($section_doc),+)),)+];

        /// The manual, in the order of the page.
        pub const MANUAL: &[$crate::config::setting::Manual] = &[$($(
            $crate::config::setting::Manual {
                section: stringify!($section),
                field: stringify!($field),
                doc: concat!($($doc),+),
                kind: <$ty as $crate::config::setting::Setting>::KIND,
            },
        )+)+];

        impl Settings {
            /// Sets one field from text.
            pub(super) fn set(&mut self, section: &str, field: &str, text: &str) -> Result<(), String> {
                match (section, field) {
                    $($((stringify!($section), stringify!($field)) => {
                        self.$section.$field = <$ty as $crate::config::setting::Setting>::parse(text)?;
                        Ok(())
                    })+)+
                    _ => Err(format!("`{section}.{field}` is no setting")),
                }
            }

            /// Shows one field; secrets masked.
            pub fn show(&self, section: &str, field: &str) -> String {
                match (section, field) {
                    $($((stringify!($section), stringify!($field)) => {
                        $crate::config::setting::Setting::show(&self.$section.$field)
                    })+)+
                    _ => String::new(),
                }
            }
        }
    };
}

pub(super) use {settings, words};
