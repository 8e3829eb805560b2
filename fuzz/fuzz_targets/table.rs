//! See `aidb::fuzzing::table`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| aidb::fuzzing::table(data));
