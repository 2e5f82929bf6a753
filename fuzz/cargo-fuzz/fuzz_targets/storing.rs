#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| leeward_fuzz::storing::check(input));
