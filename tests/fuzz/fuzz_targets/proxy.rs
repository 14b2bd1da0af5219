//! A PROXY header: more bytes never change a verdict, and what is accepted is what was sent.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringhook::internals::proxy_header;

fuzz_target!(|input: &[u8]| {
    let whole = proxy_header(input);
    for cut in 0..input.len().min(300) {
        match proxy_header(&input[..cut]) {
            None => {}
            Some(verdict) => assert_eq!(whole, Some(verdict), "cut at {cut}"),
        }
    }
    let Some(Some((source, length))) = whole else {
        assert!(whole.is_some() || input.len() < 4112, "no end of a header");
        return;
    };
    assert!(length <= input.len() && (15..=4112).contains(&length));
    assert_eq!(proxy_header(&input[..length - 1]), None, "the last byte is needed");
    // A client's address is said in the header, and nowhere else.
    let Some(source) = source else { return };
    let header = &input[..length];
    if let Some(line) = header.strip_prefix(b"PROXY ") {
        let line = str::from_utf8(line).expect("a line of text");
        assert!(line.ends_with("\r\n"));
        let fields: Vec<_> = line.trim_end().split(' ').collect();
        assert_eq!(fields.len(), 5);
        assert_eq!(fields[1].parse(), Ok(source.ip()));
        assert_eq!(fields[3].parse(), Ok(source.port()));
    } else {
        let (bytes, port_at) = match source.ip() {
            std::net::IpAddr::V4(ip) => (ip.octets().to_vec(), 16 + 8),
            std::net::IpAddr::V6(ip) => (ip.octets().to_vec(), 16 + 32),
        };
        assert_eq!(header[16..16 + bytes.len()], bytes[..]);
        assert_eq!(header[port_at..port_at + 2], source.port().to_be_bytes());
    }
});
