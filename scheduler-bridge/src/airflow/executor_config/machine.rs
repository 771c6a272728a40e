//! The pickle machine, protocols 0 to 5, without the part that makes it dangerous: a global is a name, an object is
//! its description. Each opcode makes at most one value and moves at most what it takes from the stack, so memory and
//! time follow the length of the pickle.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::reader::Reader;
use super::value::{Arena, Id, Object, Value};
use super::{DecodeError, opcode};

/// Most values in one pickle: a raw pickled V1Pod has some hundred per container.
const VALUES_MAX: usize = 500_000;

/// The values of a pickle and the one that it stands for.
pub(super) fn load(bytes: &[u8]) -> Result<(Arena<'_>, Id), DecodeError> {
    let mut machine = Machine {
        reader: Reader::new(bytes),
        arena: Arena::default(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: BTreeMap::new(),
    };
    loop {
        if machine.arena.len() > VALUES_MAX {
            return Err(DecodeError::TooLarge { what: format!("more than {VALUES_MAX} values") });
        }
        let at = machine.reader.at();
        let opcode = machine.reader.byte()?;
        if opcode == b'.' {
            let root = machine.pop().map_err(|error| named(error, opcode, at))?;
            return Ok((machine.arena, root));
        }
        machine.step(opcode, at).map_err(|error| named(error, opcode, at))?;
    }
}

/// Damage is where its opcode begins, which is named.
fn named(error: DecodeError, opcode: u8, at: usize) -> DecodeError {
    match (error, opcode::name(opcode)) {
        (DecodeError::Malformed { what, .. }, Some(name)) => {
            DecodeError::Malformed { at, what: format!("{name}: {what}") }
        }
        (error, _) => error,
    }
}

struct Machine<'a> {
    reader: Reader<'a>,
    arena: Arena<'a>,
    stack: Vec<Id>,
    /// Height of the stack at each open mark.
    marks: Vec<usize>,
    memo: BTreeMap<u64, Id>,
}

impl<'a> Machine<'a> {
    fn step(&mut self, opcode: u8, at: usize) -> Result<(), DecodeError> {
        let refused =
            |what| DecodeError::Refused { at, opcode: opcode::name(opcode).unwrap_or_default(), what };
        match opcode {
            b'N' | 0x88 | 0x89 | b'I' | b'L' | b'J' | b'K' | b'M' | 0x8a | 0x8b | b'F' | b'G' => {
                self.number(opcode)
            }
            b'S' | b'T' | b'U' | b'V' | b'X' | b'B' | b'C' | 0x8c | 0x8d | 0x8e | 0x96 => self.text(opcode),
            b'(' | b'0' | b'1' | b'2' | b'p' | b'q' | b'r' | 0x94 | b'g' | b'h' | b'j' => {
                self.stack_or_memo(opcode)
            }
            b']' | b'}' | b')' | 0x8f | b'l' | b'd' | b't' | 0x85..=0x87 | 0x91 => self.collection(opcode),
            b'a' | b'e' | b's' | b'u' | 0x90 => self.fill(opcode),
            b'c' | 0x93 | b'R' | 0x81 | 0x92 | b'i' | b'o' | b'b' => self.object(opcode, at),
            0x80 => match self.reader.byte()? {
                0..=5 => Ok(()),
                other => Err(self.reader.malformed(format!("pickle protocol {other} is not known"))),
            },
            // A frame announces bytes; the reader checks each length anyway.
            0x95 => self.reader.unsigned(8).map(drop),
            b'P' | b'Q' => Err(refused("a persistent id")),
            0x82..=0x84 => Err(refused("an extension code")),
            0x97 | 0x98 => Err(refused("an out-of-band buffer")),
            _ => Err(DecodeError::Malformed { at, what: format!("0x{opcode:02x} is no opcode") }),
        }
    }

    fn push(&mut self, value: Value<'a>) {
        let id = self.arena.add(value);
        self.stack.push(id);
    }

    /// The value on top, not reaching below the last mark.
    fn pop(&mut self) -> Result<Id, DecodeError> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return Err(self.reader.malformed("it takes a value from an empty stack"));
        }
        self.stack.pop().ok_or_else(|| self.reader.malformed("it takes a value from an empty stack"))
    }

    fn top(&self) -> Result<Id, DecodeError> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let top = self.stack.last().filter(|_| self.stack.len() > floor);
        top.copied().ok_or_else(|| self.reader.malformed("it looks at an empty stack"))
    }

    /// All values above the last mark, which is taken away.
    fn pop_mark(&mut self) -> Result<Vec<Id>, DecodeError> {
        let floor = self.marks.pop().ok_or_else(|| self.reader.malformed("a mark is missing"))?;
        Ok(self.stack.split_off(floor))
    }

    fn number(&mut self, opcode: u8) -> Result<(), DecodeError> {
        let value = match opcode {
            b'N' => Value::None,
            0x88 => Value::Bool(true),
            0x89 => Value::Bool(false),
            b'I' | b'L' => match self.reader.line()?.trim() {
                "01" if opcode == b'I' => Value::Bool(true),
                "00" if opcode == b'I' => Value::Bool(false),
                line => self.decimal(line.strip_suffix('L').unwrap_or(line))?,
            },
            b'J' => {
                let bits = self.reader.unsigned(4)?;
                Value::Int(if bits > 0x7fff_ffff { i128::from(bits) - (1 << 32) } else { i128::from(bits) })
            }
            b'K' => Value::Int(self.reader.unsigned(1)?.into()),
            b'M' => Value::Int(self.reader.unsigned(2)?.into()),
            0x8a => little_endian(self.reader.counted(1)?),
            0x8b => little_endian(self.reader.counted(4)?),
            b'F' => {
                let line = self.reader.line()?.trim();
                Value::Float(line.parse().map_err(|_| self.reader.malformed("a float is no number"))?)
            }
            _ => {
                let bits = self.reader.take(8)?.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
                Value::Float(f64::from_bits(bits))
            }
        };
        self.push(value);
        Ok(())
    }

    fn decimal(&self, digits: &str) -> Result<Value<'a>, DecodeError> {
        let body = digits.strip_prefix('-').unwrap_or(digits);
        if body.is_empty() || !body.bytes().all(|b| b.is_ascii_digit()) {
            return Err(self.reader.malformed("an int is no number"));
        }
        Ok(digits.parse().map_or(Value::BigInt, Value::Int))
    }

    fn text(&mut self, opcode: u8) -> Result<(), DecodeError> {
        let reader = &mut self.reader;
        let value = match opcode {
            b'S' => Value::Str(Cow::Owned(reader.quoted_line()?)),
            b'V' => Value::Str(Cow::Owned(reader.unicode_line()?)),
            b'T' => Value::Str(reader.counted_ascii(4)?),
            b'U' => Value::Str(reader.counted_ascii(1)?),
            b'X' => Value::Str(reader.counted_text(4)?),
            0x8c => Value::Str(reader.counted_text(1)?),
            0x8d => Value::Str(reader.counted_text(8)?),
            b'B' => Value::Bytes(Cow::Borrowed(reader.counted(4)?)),
            b'C' => Value::Bytes(Cow::Borrowed(reader.counted(1)?)),
            _ => Value::Bytes(Cow::Borrowed(reader.counted(8)?)),
        };
        self.push(value);
        Ok(())
    }

    fn stack_or_memo(&mut self, opcode: u8) -> Result<(), DecodeError> {
        match opcode {
            b'(' => self.marks.push(self.stack.len()),
            // POP takes a mark when nothing lies above it.
            b'0' if self.marks.last() == Some(&self.stack.len()) => drop(self.marks.pop()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.pop_mark()?),
            b'2' => self.stack.push(self.top()?),
            b'p' | b'q' | b'r' | 0x94 => {
                let slot = match opcode {
                    b'p' => self.line_number()?,
                    b'q' => self.reader.unsigned(1)?,
                    b'r' => self.reader.unsigned(4)?,
                    _ => self.memo.len() as u64,
                };
                let top = self.top()?;
                self.memo.insert(slot, top);
            }
            _ => {
                let slot = match opcode {
                    b'g' => self.line_number()?,
                    b'h' => self.reader.unsigned(1)?,
                    _ => self.reader.unsigned(4)?,
                };
                let value = self.memo.get(&slot).copied();
                self.stack
                    .push(value.ok_or_else(|| self.reader.malformed("it recalls what it never stored"))?);
            }
        }
        Ok(())
    }

    fn line_number(&mut self) -> Result<u64, DecodeError> {
        let line = self.reader.line()?;
        line.trim().parse().map_err(|_| self.reader.malformed("a memo number is none"))
    }

    fn collection(&mut self, opcode: u8) -> Result<(), DecodeError> {
        let value = match opcode {
            b']' => Value::List(Vec::new()),
            b'}' => Value::Dict(Vec::new()),
            b')' => Value::Tuple(Vec::new()),
            0x8f => Value::Set(Vec::new()),
            b'l' => Value::List(self.pop_mark()?),
            b'd' => {
                let items = self.pop_mark()?;
                Value::Dict(self.pairs(&items)?)
            }
            b't' => Value::Tuple(self.pop_mark()?),
            0x91 => Value::Set(self.pop_mark()?),
            _ => {
                let mut items = Vec::with_capacity(3);
                for _ in 0x84..opcode {
                    items.push(self.pop()?);
                }
                items.reverse();
                Value::Tuple(items)
            }
        };
        self.push(value);
        Ok(())
    }

    fn pairs(&self, items: &[Id]) -> Result<Vec<(Id, Id)>, DecodeError> {
        let (pairs, rest) = items.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(self.reader.malformed("a key has no value"));
        }
        Ok(pairs.iter().map(|[key, value]| (*key, *value)).collect())
    }

    /// Puts values into the collection below them.
    fn fill(&mut self, opcode: u8) -> Result<(), DecodeError> {
        let mut items = match opcode {
            b'a' => vec![self.pop()?],
            b's' => {
                let value = self.pop()?;
                vec![self.pop()?, value]
            }
            _ => self.pop_mark()?,
        };
        let mut pairs = if matches!(opcode, b's' | b'u') { self.pairs(&items)? } else { Vec::new() };
        let top = self.top()?;
        match (self.arena.get_mut(top), opcode) {
            (Value::List(list), b'a' | b'e') | (Value::Set(list), 0x90) => list.append(&mut items),
            (Value::Dict(dict), b's' | b'u') => dict.append(&mut pairs),
            // Its own code would decide what becomes of them.
            (Value::Object(object), _) => object.filled = true,
            _ => return Err(self.reader.malformed("it fills what is no collection")),
        }
        Ok(())
    }

    fn object(&mut self, opcode: u8, at: usize) -> Result<(), DecodeError> {
        match opcode {
            b'c' | b'i' => {
                let (module, name) = (self.reader.line()?, self.reader.line()?);
                let module = self.arena.add(Value::Str(module.into()));
                let name = self.arena.add(Value::Str(name.into()));
                let class = self.arena.add(Value::Global { module, name });
                if opcode == b'c' {
                    self.stack.push(class);
                    return Ok(());
                }
                let args = Value::Tuple(self.pop_mark()?);
                let args = self.arena.add(args);
                self.call(class, args, (opcode, at));
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                if self.arena.text(module).is_none() || self.arena.text(name).is_none() {
                    return Err(self.reader.malformed("the name of a global is no text"));
                }
                self.push(Value::Global { module, name });
            }
            b'o' => {
                let mut args = self.pop_mark()?;
                if args.is_empty() {
                    return Err(self.reader.malformed("an object has no class"));
                }
                let class = args.remove(0);
                let args = self.arena.add(Value::Tuple(args));
                self.call(class, args, (opcode, at));
            }
            b'b' => {
                let (state, target) = (self.pop()?, self.top()?);
                match self.arena.get_mut(target) {
                    Value::Object(object) => object.state = Some(state),
                    // A mapping class that is read as a dict may have attributes too.
                    Value::Dict(_) => {}
                    _ => return Err(self.reader.malformed("it sets attributes of a plain value")),
                }
            }
            _ => {
                if opcode == 0x92 {
                    self.pop()?; // keyword arguments
                }
                let (args, class) = (self.pop()?, self.pop()?);
                if !matches!(self.arena.get(args), Value::Tuple(_)) {
                    return Err(self.reader.malformed("the arguments of a call are no tuple"));
                }
                self.call(class, args, (opcode, at));
            }
        }
        Ok(())
    }

    /// What a call would give: a plain value for the few that are known, else a description of the object.
    fn call(&mut self, class: Id, args: Id, (opcode, at): (u8, usize)) {
        let items = match self.arena.get(args) {
            Value::Tuple(items) => items.as_slice(),
            _ => &[],
        };
        if let Some(known) = self.known_call(class, items) {
            match known {
                Known::Value(value) => self.push(value),
                Known::Same(id) => self.stack.push(id),
            }
            return;
        }
        let class = match (self.arena.global(class), items.first()) {
            // Protocols 0 and 1 make instances through this function of `copyreg`.
            (Some(("copyreg" | "copy_reg", "_reconstructor")), Some(real)) => *real,
            _ => class,
        };
        self.push(Value::Object(Box::new(Object { class, args, state: None, filled: false, opcode, at })));
    }

    fn known_call(&self, class: Id, args: &[Id]) -> Option<Known<'a>> {
        let text = |at: usize| args.get(at).and_then(|id| self.arena.text(*id));
        match (self.arena.global(class)?, args.len()) {
            // The two enums of Airflow are texts: a member is made from its value...
            (("airflow.serialization.enums", "Encoding" | "DagAttributeTypes"), 1) => {
                text(0)?;
                Some(Known::Same(args[0]))
            }
            // ... or, by Python 3.11.0 to 3.11.3, fetched by its name.
            (("builtins" | "__builtin__", "getattr"), 2) => {
                let ("airflow.serialization.enums", owner) = self.arena.global(args[0])? else { return None };
                let value = enum_value(owner, text(1)?)?;
                Some(Known::Value(Value::Str(Cow::Borrowed(value))))
            }
            (("builtins" | "__builtin__", "dict") | ("collections", "OrderedDict"), 0)
            | (("collections", "defaultdict"), 0 | 1) => Some(Known::Value(Value::Dict(Vec::new()))),
            // Bytes in protocols before 3. Short ones, such as a datetime's: each call copies them.
            (("_codecs", "encode"), 2) if text(1)? == "latin1" && text(0)?.len() <= 64 => {
                let bytes =
                    text(0)?.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect::<Option<Vec<u8>>>();
                Some(Known::Value(Value::Bytes(Cow::Owned(bytes?))))
            }
            _ => None,
        }
    }
}

enum Known<'a> {
    Value(Value<'a>),
    Same(Id),
}

/// Members of `Encoding` and `DagAttributeTypes` that a pod_override can have.
fn enum_value(owner: &str, member: &str) -> Option<&'static str> {
    Some(match (owner, member) {
        ("Encoding", "TYPE") => "__type",
        ("Encoding", "VAR") => "__var",
        ("DagAttributeTypes", "POD") => "k8s.V1Pod",
        ("DagAttributeTypes", "DICT") => "dict",
        ("DagAttributeTypes", "SET") => "set",
        ("DagAttributeTypes", "TUPLE") => "tuple",
        _ => return None,
    })
}

/// A two's complement number of any length; beyond 128 bits only its size is known.
fn little_endian(bytes: &[u8]) -> Value<'static> {
    if bytes.len() > 16 {
        return Value::BigInt;
    }
    let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
    let mut wide = [if negative { 0xff } else { 0 }; 16];
    wide[..bytes.len()].copy_from_slice(bytes);
    Value::Int(i128::from_le_bytes(wide))
}
