//! Records of TLS 1.3 as a peer with the keys may forge them, and as one without: cut anywhere, the
//! same is read; memory is bounded; nothing panics.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringhook::internals::TestRecords;

fuzz_target!(|input: &[u8]| {
    let Some((&first, script)) = input.split_first() else { return };
    let (suite, mut forger) = (first % 3, TestRecords::new(first % 3));
    // What the peer sends: records with any content, and bytes that are no records.
    let mut stream = Vec::new();
    let mut rest = script;
    while let [command, length, later @ ..] = rest {
        let (content, later) = later.split_at(later.len().min(usize::from(*length)));
        rest = later;
        match command % 8 {
            0 => stream.extend_from_slice(content),
            1 => forger.forge(&[content, &[23]].concat(), &mut stream),
            2 => forger.forge(&[content, &[22]].concat(), &mut stream),
            3 => forger.forge(&[content, &[21]].concat(), &mut stream),
            4 => {
                forger.forge(&[24, 0, 0, 1, length & 1, 22], &mut stream);
                forger.change_keys();
            }
            // Long ones: of data, and with padding.
            5 => forger.forge(&[&content.repeat(80)[..], &[23]].concat(), &mut stream),
            6 => forger.forge(
                &[content, &[23], &vec![0; 64 * usize::from(*length)]].concat(),
                &mut stream,
            ),
            _ => forger.forge(content, &mut stream),
        }
    }
    let whole = read(suite, &stream, usize::MAX);
    let piece = 1 + usize::from(first / 3) * 7;
    let cut = read(suite, &stream, piece);
    assert_eq!(whole, cut, "pieces of {piece}");
});

/// What is read of `stream`, and how it ended.
fn read(suite: u8, stream: &[u8], piece: usize) -> (Vec<u8>, Option<&'static str>) {
    let mut server = TestRecords::new(suite);
    let mut read = Vec::new();
    for piece in stream.chunks(piece) {
        let end = server.receive(piece, |data| read.extend_from_slice(data));
        assert!(server.memory() <= 16_645, "{} bytes held", server.memory());
        if end.is_some() {
            assert!(server.answer().len() < 200, "an alert, and a key update");
            return (read, end);
        }
    }
    assert!(server.answer().len() < 200);
    (read, None)
}
