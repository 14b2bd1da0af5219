//! What a bot answers behind HTTP: the same in one part and in single bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringhook_outputs::internals::read_answer;

fuzz_target!(|input: &[u8]| {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let whole = runtime.block_on(read_answer([input]));
    let bytewise = runtime.block_on(read_answer(input.chunks(1)));
    let told =
        |answer: Option<(u16, _, bool)>| answer.map(|(status, content, _)| (status, content));
    // What comes behind an answer closes a connection only where it has come by then.
    assert_eq!(told(whole), told(bytewise));
});
