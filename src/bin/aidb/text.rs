//! Bytes as arguments and as text: as they are, hexadecimal or base64.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::args::Encoding;
use crate::failure::Failure;

/// The bytes that an argument stands for.
pub(crate) fn argument(text: &OsStr, encoding: Encoding) -> Result<Vec<u8>, Failure> {
    decode_given(text.as_bytes(), encoding)
}

/// [`decode`] of what the command line or standard input gave.
pub(crate) fn decode_given(text: &[u8], encoding: Encoding) -> Result<Vec<u8>, Failure> {
    decode(text, encoding)
        .map_err(|why| Failure::Usage(format!("--encoding {}: {why}", encoding.name())))
}

/// The bytes that a text stands for, or what is wrong with it.
pub(crate) fn decode(text: &[u8], encoding: Encoding) -> Result<Vec<u8>, String> {
    match encoding {
        Encoding::Text => Ok(text.to_vec()),
        Encoding::Hex => parse_hex(text),
        Encoding::Base64 => STANDARD.decode(text).map_err(|why| format!("not base64: {why}")),
    }
}

fn parse_hex(text: &[u8]) -> Result<Vec<u8>, String> {
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

/// Writes bytes as they are, as lower-case hexadecimal digits or as base64.
pub(crate) fn write_bytes(
    out: &mut (impl Write + ?Sized),
    bytes: &[u8],
    encoding: Encoding,
) -> io::Result<()> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    match encoding {
        Encoding::Text => out.write_all(bytes),
        Encoding::Hex => bytes.iter().try_for_each(|b| {
            out.write_all(&[DIGITS[usize::from(b >> 4)], DIGITS[usize::from(b & 15)]])
        }),
        Encoding::Base64 => {
            // A multiple of three, so that only the last piece is padded.
            const PIECE: usize = 3 * 256;
            let mut text = [0; 4 * 256];
            bytes.chunks(PIECE).try_for_each(|piece| {
                let len = STANDARD.encode_slice(piece, &mut text).map_err(io::Error::other)?;
                out.write_all(&text[..len])
            })
        }
    }
}

/// Bytes for people: printable text as it is, the rest escaped, or encoded as
/// asked for; cut where it gets long.
pub(crate) fn shown(bytes: &[u8], encoding: Encoding) -> String {
    /// Longer ones are cut.
    const BYTES_MAX: usize = 64;
    let cut = &bytes[..bytes.len().min(BYTES_MAX)];
    let mut text = match encoding {
        Encoding::Text => cut.escape_ascii().to_string(),
        Encoding::Hex | Encoding::Base64 => {
            let mut text = Vec::new();
            write_bytes(&mut text, cut, encoding).expect("a Vec takes everything");
            String::from_utf8(text).expect("digits")
        }
    };
    if cut.len() < bytes.len() {
        text += "...";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(bytes: &[u8], encoding: Encoding) -> Vec<u8> {
        let mut text = Vec::new();
        write_bytes(&mut text, bytes, encoding).unwrap();
        text
    }

    #[test]
    fn every_encoding_goes_both_ways() {
        let all: Vec<u8> = (0..=255).cycle().take(3000).collect();
        for encoding in [Encoding::Text, Encoding::Hex, Encoding::Base64] {
            for len in [0, 1, 2, 3, 255, 767, 768, 769, 3000] {
                let text = encoded(&all[..len], encoding);
                assert_eq!(decode(&text, encoding).unwrap(), all[..len], "{encoding:?} {len}");
            }
        }
        assert_eq!(encoded(b"\x00\xff", Encoding::Hex), b"00ff");
        assert_eq!(encoded(b"\x00\xff", Encoding::Base64), b"AP8=");
        assert_eq!(decode(b"00FF", Encoding::Hex).unwrap(), b"\x00\xff");
    }

    #[test]
    fn what_is_not_of_the_encoding_is_refused() {
        for text in ["abc", "0g", "é"] {
            assert!(decode(text.as_bytes(), Encoding::Hex).is_err(), "{text}");
        }
        for text in ["AP8", "A", "A*==", "AP8=\n"] {
            assert!(decode(text.as_bytes(), Encoding::Base64).is_err(), "{text}");
        }
    }

    #[test]
    fn long_bytes_are_cut_for_people() {
        assert_eq!(shown(b"a\0", Encoding::Text), "a\\x00");
        assert_eq!(shown(b"a\0", Encoding::Hex), "6100");
        assert_eq!(shown(&[b'x'; 100], Encoding::Text), format!("{}...", "x".repeat(64)));
    }
}
