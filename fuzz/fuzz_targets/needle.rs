//! The target needle for libFuzzer; what it does stands beside the parser.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::run("needle", data));
