#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ferromesh_proxy::fuzz::dns(data));
