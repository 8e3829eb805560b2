//! See `aidb::fuzzing::database`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| aidb::fuzzing::database(data));
