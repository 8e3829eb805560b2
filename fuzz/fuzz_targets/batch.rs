//! See `aidb::fuzzing::batch`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| aidb::fuzzing::batch(data));
