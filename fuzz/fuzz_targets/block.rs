//! See `aidb::fuzzing::block`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| aidb::fuzzing::block(data));
