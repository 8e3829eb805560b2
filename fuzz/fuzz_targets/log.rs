//! See `aidb::fuzzing::log`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| aidb::fuzzing::log(data));
