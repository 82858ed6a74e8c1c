#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ferromesh_ca::fuzz::bearer_token(data));
