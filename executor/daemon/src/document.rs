//! Documents that a command is given: a file, or standard input.

use std::fs::File;
use std::io::{Error, ErrorKind, Read, stdin};
use std::path::Path;

/// All bytes of a file, or of standard input (`-`).
///
/// # Errors
/// Of reading; and a document longer than `max` bytes, which is none of what we are given.
pub fn read(path: &Path, max: u64) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let read = |from: &mut dyn Read, bytes: &mut Vec<u8>| from.take(max + 1).read_to_end(bytes);
    if path == Path::new("-") {
        read(&mut stdin(), &mut bytes)?;
    } else {
        read(&mut File::open(path)?, &mut bytes)?;
    }
    if bytes.len() as u64 > max {
        return Err(Error::new(ErrorKind::InvalidData, format!("it is longer than {max} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_that_is_too_long_is_not_cut() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "12345").unwrap();
        assert_eq!(read(file.path(), 5).unwrap(), b"12345");
        assert_eq!(read(file.path(), 4).unwrap_err().to_string(), "it is longer than 4 bytes");
    }
}
