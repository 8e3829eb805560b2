//! The options of a column family, as the manifest has them. Frozen.
//!
//! 1. The fields stand in a fixed order without tags, all of them, and every
//!    number has one encoding whatever the machine: a manifest moves between
//!    machines of different word size.
//! 2. A later version adds fields at the end only. What follows the last field
//!    that this version knows is not looked at; a later version gives a field
//!    that is not there its default.
//! 3. What is read satisfies [`ColumnFamilyOptions::check`], as what a caller
//!    passes does: the engine cannot tell the two apart.

use crate::compress::compression_from_u8;
use crate::config::{ColumnFamilyOptions, Compression, LEVELS};
use crate::error::{Error, Result};
use crate::util::coding::{Cursor, put_bytes, put_varint};

impl ColumnFamilyOptions {
    /// The options as bytes, in the form that the manifest has them in: the same
    /// on every machine. Later versions add to the end.
    ///
    /// ```
    /// use aidb::ColumnFamilyOptions;
    /// let options = ColumnFamilyOptions::default().block_bytes(8192);
    /// let bytes = options.to_bytes();
    /// assert_eq!(ColumnFamilyOptions::from_bytes(&bytes)?.to_bytes(), bytes);
    /// # Ok::<(), aidb::Error>(())
    /// ```
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        encode(self, &mut out);
        out
    }

    /// The options that [`to_bytes`](Self::to_bytes) gave, of this version or a
    /// later one, whose further options are ignored.
    ///
    /// # Errors
    /// `InvalidArgument` when the bytes are none, or name values that no engine
    /// can work with.
    pub fn from_bytes(bytes: &[u8]) -> Result<ColumnFamilyOptions> {
        decode(&mut Cursor::new(bytes)).map_err(Error::invalid)
    }
}

/// Appends the fields of `options`.
pub(super) fn encode(options: &ColumnFamilyOptions, out: &mut Vec<u8>) {
    // Named one by one, so that a new option is not forgotten here.
    let ColumnFamilyOptions {
        write_buffer_bytes,
        max_write_buffers,
        compression,
        bloom_bits_per_key,
        block_bytes,
        target_file_bytes,
        level0_file_trigger,
        level_base_bytes,
        level_multiplier,
        point_index,
    } = options;
    put_varint(out, *write_buffer_bytes as u64);
    put_varint(out, *max_write_buffers as u64);
    put_bytes(out, &compression.map(|codec| codec as u8));
    out.extend_from_slice(&bloom_bits_per_key.to_bits().to_le_bytes());
    put_varint(out, *block_bytes as u64);
    put_varint(out, *target_file_bytes);
    put_varint(out, *level0_file_trigger as u64);
    put_varint(out, *level_base_bytes);
    put_varint(out, u64::from(*level_multiplier));
    out.push(u8::from(*point_index));
}

/// Reads the fields from hostile bytes.
pub(super) fn decode(cursor: &mut Cursor<'_>) -> Result<ColumnFamilyOptions, &'static str> {
    const CUT_OFF: &str = "edit: column family options are cut off or too large";
    let options = ColumnFamilyOptions {
        write_buffer_bytes: cursor.varint_usize().ok_or(CUT_OFF)?,
        max_write_buffers: cursor.varint_usize().ok_or(CUT_OFF)?,
        compression: decode_compression(cursor.bytes().ok_or(CUT_OFF)?)?,
        bloom_bits_per_key: f64::from_bits(cursor.u64().ok_or(CUT_OFF)?),
        block_bytes: cursor.varint_usize().ok_or(CUT_OFF)?,
        target_file_bytes: cursor.varint().ok_or(CUT_OFF)?,
        level0_file_trigger: cursor.varint_usize().ok_or(CUT_OFF)?,
        level_base_bytes: cursor.varint().ok_or(CUT_OFF)?,
        level_multiplier: cursor.varint().and_then(|n| n.try_into().ok()).ok_or(CUT_OFF)?,
        point_index: cursor.u8().is_none_or(|yes| yes != 0),
    };
    options.check()?;
    Ok(options)
}

/// One codec a level.
fn decode_compression(codes: &[u8]) -> Result<[Compression; LEVELS], &'static str> {
    let codes: [u8; LEVELS] =
        codes.try_into().map_err(|_| "edit: column family options of another number of levels")?;
    let mut compression = [Compression::None; LEVELS];
    for (slot, code) in compression.iter_mut().zip(codes) {
        *slot = compression_from_u8(code).ok_or("edit: unknown compression of a column family")?;
    }
    Ok(compression)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(options: &ColumnFamilyOptions) -> Vec<u8> {
        let mut out = vec![];
        encode(options, &mut out);
        out
    }

    fn decoded(bytes: &[u8]) -> Result<ColumnFamilyOptions, &'static str> {
        decode(&mut Cursor::new(bytes))
    }

    /// Every field unlike its default and unlike the others.
    fn special() -> ColumnFamilyOptions {
        ColumnFamilyOptions::default()
            .write_buffer_bytes(8192)
            .max_write_buffers(3)
            .compression_per_level(&[Compression::None, Compression::Lz4, Compression::Snappy])
            .bloom_bits_per_key(12.5)
            .block_bytes(512)
            .target_file_bytes(4097)
            .level0_file_trigger(9)
            .level_base_bytes(1 << 40)
            .level_multiplier(300)
            .point_index(false)
    }

    #[test]
    fn golden_bytes() {
        let golden: Vec<&[u8]> = vec![
            &[0x80, 0x40, 3],
            &[7, 0, 1, 2, 2, 2, 2, 2],
            &[0, 0, 0, 0, 0, 0, 0x29, 0x40],
            &[0x80, 4, 0x81, 0x20, 9],
            &[0x80, 0x80, 0x80, 0x80, 0x80, 0x20, 0xac, 2],
            &[0],
        ];
        let golden = golden.concat();
        assert_eq!(encoded(&special()), golden);
        assert_eq!(decoded(&golden), Ok(special()));
        // Fields of a later version follow.
        assert_eq!(decoded(&[&golden[..], &[0xff; 20]].concat()), Ok(special()));
        // Of an earlier version, which had no `point_index`.
        let cut = &golden[..golden.len() - 1];
        assert_eq!(decoded(cut), Ok(special().point_index(true)));
        for len in 0..cut.len() {
            assert!(decoded(&golden[..len]).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn what_a_caller_may_not_ask_for_is_refused() {
        let refused = |options: ColumnFamilyOptions, what: &str| {
            assert!(options.validate().is_err(), "{what}");
            let err = decoded(&encoded(&options)).expect_err(what);
            assert!(err.contains(what), "{err}: {what}");
        };
        refused(special().write_buffer_bytes(4095), "write_buffer_bytes");
        refused(special().write_buffer_bytes(usize::MAX), "write_buffer_bytes");
        refused(special().max_write_buffers(1), "max_write_buffers");
        refused(special().bloom_bits_per_key(f64::NAN), "bloom_bits_per_key");
        refused(special().bloom_bits_per_key(f64::INFINITY), "bloom_bits_per_key");
        refused(special().bloom_bits_per_key(-1.0), "bloom_bits_per_key");
        refused(special().block_bytes(0), "block_bytes");
        refused(special().block_bytes(1 << 30), "block_bytes");
        refused(special().target_file_bytes(0), "target_file_bytes");
        refused(special().level0_file_trigger(0), "level0_file_trigger");
        refused(special().level_base_bytes(0), "level_base_bytes");
        refused(special().level_multiplier(1), "level_multiplier");
        refused(special().level_multiplier(u32::MAX), "level_multiplier");
    }

    #[test]
    fn unknown_codecs_and_levels_are_refused() {
        let mut bytes = encoded(&special());
        bytes[10] = 3;
        assert_eq!(decoded(&bytes), Err("edit: unknown compression of a column family"));
        bytes[3] = 6;
        assert!(decoded(&bytes).unwrap_err().contains("number of levels"));
        // A multiplier beyond 32 bits is not cut to what fits.
        let mut bytes = encoded(&special().level_multiplier(10));
        bytes.truncate(bytes.len() - 2);
        put_varint(&mut bytes, (1 << 32) + 10);
        assert!(decoded(&bytes).is_err());
    }

    proptest! {
        #[test]
        fn hostile_bytes_give_valid_options_or_an_error(bytes: Vec<u8>, at: prop::sample::Index,
                                                        byte: u8) {
            let _ = decoded(&bytes);
            let mut damaged = encoded(&special());
            let at = at.index(damaged.len());
            damaged[at] = byte;
            if let Ok(options) = decoded(&damaged) {
                prop_assert_eq!(options.check(), Ok(()));
            }
        }
    }
}
