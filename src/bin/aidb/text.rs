//! Bytes as arguments and as text: raw, or hexadecimal with `--hex`.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;

use crate::failure::Failure;

/// The bytes that an argument stands for.
pub(crate) fn argument(text: &OsStr, hex: bool) -> Result<Vec<u8>, Failure> {
    if hex { decode_hex(text.as_bytes()) } else { Ok(text.as_bytes().to_vec()) }
}

/// Decodes hexadecimal digits, or says what is wrong with them.
pub(crate) fn parse_hex(text: &[u8]) -> Result<Vec<u8>, String> {
    let digit = |c: u8| {
        char::from(c)
            .to_digit(16)
            .map(|d| d as u8)
            .ok_or_else(|| format!("`{}` is not a hexadecimal digit", c.escape_ascii()))
    };
    if !text.len().is_multiple_of(2) {
        return Err("an odd number of hexadecimal digits".into());
    }
    text.chunks_exact(2).map(|pair| Ok(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

/// [`parse_hex`] of what the command line or standard input gave.
pub(crate) fn decode_hex(text: &[u8]) -> Result<Vec<u8>, Failure> {
    parse_hex(text).map_err(|why| Failure::Usage(format!("--hex: {why}")))
}

/// Writes bytes as they are or as lower-case hexadecimal digits.
pub(crate) fn write_bytes(out: &mut impl Write, bytes: &[u8], hex: bool) -> io::Result<()> {
    if !hex {
        return out.write_all(bytes);
    }
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().try_for_each(|b| {
        out.write_all(&[DIGITS[usize::from(b >> 4)], DIGITS[usize::from(b & 15)]])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_goes_both_ways() {
        let all: Vec<u8> = (0..=255).collect();
        let mut text = Vec::new();
        write_bytes(&mut text, &all, true).unwrap();
        assert_eq!(parse_hex(&text).unwrap(), all);
        assert_eq!(parse_hex(&text.to_ascii_uppercase()).unwrap(), all);
        assert_eq!(parse_hex(b"").unwrap(), b"");
        assert!(parse_hex(b"abc").is_err());
        assert!(parse_hex(b"0g").is_err());
        assert!(parse_hex("é".as_bytes()).is_err());
    }
}
