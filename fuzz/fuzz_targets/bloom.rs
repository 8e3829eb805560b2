//! See `aidb::fuzzing::bloom`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| aidb::fuzzing::bloom(data));
