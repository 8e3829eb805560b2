//! See `aidb::fuzzing::compression`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| aidb::fuzzing::compression(data));
