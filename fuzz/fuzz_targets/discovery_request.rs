#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ferromesh_controller::fuzz::discovery_request(data));
