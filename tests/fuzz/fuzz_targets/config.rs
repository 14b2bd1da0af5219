//! A config file: any text is one or is refused with a line about it, and what is printed of it can
//! be read again and means the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringhook_cli::{printed_config, rewritten_config};

/// What is printed instead of a secret. It is no token, so such a config cannot be completed again.
const HIDDEN: &str = "(hidden)";

fuzz_target!(|text: &str| {
    let printed = match printed_config(text) {
        Ok(printed) => printed,
        Err(error) => {
            let message = error.to_string();
            assert!(!message.is_empty() && !message.contains('\n'), "{message:?}");
            return;
        }
    };
    assert_eq!(rewritten_config(&printed).expect("what is printed can be read"), printed);
    if !printed.contains(HIDDEN) {
        assert_eq!(printed_config(&printed).expect("what is printed is valid"), printed);
    }
});
