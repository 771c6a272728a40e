//! What a pickle holds, in an arena: values refer to each other by number, so shared and cyclic ones cost nothing and
//! dropping a deeply nested one needs no stack.

use std::borrow::Cow;

use super::opcode;

/// Number of a value in its [`Arena`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Id(u32);

/// A value of Python. Objects are what their class and arguments say; nothing of them was run.
#[derive(Debug)]
pub(super) enum Value<'a> {
    None,
    Bool(bool),
    Int(i128),
    /// An integer beyond 128 bits.
    BigInt,
    Float(f64),
    Str(Cow<'a, str>),
    Bytes(Cow<'a, [u8]>),
    List(Vec<Id>),
    Tuple(Vec<Id>),
    Set(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    /// A class or function, by name.
    Global {
        module: Id,
        name: Id,
    },
    /// An instance of a class that is not read, or the result of a function that is not called.
    Object(Box<Object>),
}

/// An instance as the pickle describes it.
#[derive(Debug)]
pub(super) struct Object {
    /// What would be called to make it.
    pub(super) class: Id,
    /// With these arguments: a tuple. Not its items, which a short pickle could have copied over and over.
    pub(super) args: Id,
    /// What its attributes would be set from.
    pub(super) state: Option<Id>,
    /// What would be appended, added or set in it.
    pub(super) filled: bool,
    /// What made it, and where in the pickle.
    pub(super) opcode: u8,
    pub(super) at: usize,
}

/// The values of one pickle.
#[derive(Debug, Default)]
pub(super) struct Arena<'a> {
    values: Vec<Value<'a>>,
}

impl<'a> Arena<'a> {
    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    /// The caller bounds the number of values far below 2^32.
    pub(super) fn add(&mut self, value: Value<'a>) -> Id {
        let id = Id(u32::try_from(self.values.len()).unwrap_or(u32::MAX));
        self.values.push(value);
        id
    }

    pub(super) fn get(&self, id: Id) -> &Value<'a> {
        &self.values[id.0 as usize]
    }

    pub(super) fn get_mut(&mut self, id: Id) -> &mut Value<'a> {
        &mut self.values[id.0 as usize]
    }

    pub(super) fn text(&self, id: Id) -> Option<&str> {
        match self.get(id) {
            Value::Str(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn global(&self, id: Id) -> Option<(&str, &str)> {
        match self.get(id) {
            Value::Global { module, name } => Some((self.text(*module)?, self.text(*name)?)),
            _ => None,
        }
    }

    /// The arguments that an object would be made with.
    pub(super) fn args(&self, object: &Object) -> &[Id] {
        match self.get(object.args) {
            Value::Tuple(args) => args,
            _ => &[],
        }
    }

    /// The value of a dict under a text key; of equal keys the last was set.
    pub(super) fn entry(&self, pairs: &[(Id, Id)], key: &str) -> Option<Id> {
        pairs.iter().rev().find(|(k, _)| self.text(*k) == Some(key)).map(|(_, value)| *value)
    }

    /// `bool(value)`. Objects count as true: what they would say of themselves is their code.
    pub(super) fn truthy(&self, id: Id) -> bool {
        match self.get(id) {
            Value::None => false,
            Value::Bool(b) => *b,
            Value::Int(i) => *i != 0,
            Value::Float(f) => *f != 0.0,
            Value::Str(text) => !text.is_empty(),
            Value::Bytes(bytes) => !bytes.is_empty(),
            Value::List(items) | Value::Tuple(items) | Value::Set(items) => !items.is_empty(),
            Value::Dict(pairs) => !pairs.is_empty(),
            Value::BigInt | Value::Global { .. } | Value::Object(_) => true,
        }
    }

    /// What a value is, for a message: `a dict`, `a mymodule.Thing object (REDUCE at byte 12)`.
    pub(super) fn describe(&self, id: Id) -> String {
        let word = match self.get(id) {
            Value::None => "None",
            Value::Bool(_) => "a bool",
            Value::Int(_) => "an int",
            Value::BigInt => "an int beyond 128 bits",
            Value::Float(_) => "a float",
            Value::Str(_) => "a str",
            Value::Bytes(_) => "bytes",
            Value::List(_) => "a list",
            Value::Tuple(_) => "a tuple",
            Value::Set(_) => "a set",
            Value::Dict(_) => "a dict",
            Value::Global { .. } => return format!("the class or function {}", self.global_shown(id)),
            Value::Object(object) => {
                let what = match self.global(object.class) {
                    Some(_) => format!("a {} object", self.global_shown(object.class)),
                    None => "an object made by another object".to_owned(),
                };
                let opcode = opcode::name(object.opcode).unwrap_or_default();
                return format!("{what} ({opcode} at byte {})", object.at);
            }
        };
        word.to_owned()
    }

    /// `module.name`, cut: a hostile pickle may hold a name of any length.
    fn global_shown(&self, id: Id) -> String {
        let (module, name) = self.global(id).unwrap_or_default();
        module.chars().chain(".".chars()).chain(name.chars()).take(120).collect()
    }
}
