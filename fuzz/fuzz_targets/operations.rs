//! See `aidb::fuzzing::operations`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| aidb::fuzzing::operations(data));
