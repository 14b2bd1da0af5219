//! The PROXY protocol, versions 1 and 2, by haproxy's `proxy-protocol.txt`: a header before
//! everything else in which a balancer sends the address of the client whose connection it passes
//! on. Bytes in, a verdict out.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The longest header of version 1, its line end included.
const V1_MAX: usize = 107;
const V1_START: &[u8] = b"PROXY ";
/// What no other protocol begins with.
const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, command, family and length.
const V2_FIXED: usize = 16;
/// The most that addresses and additions (TLVs) of version 2 may take. The format has room for
/// 64 KiB, balancers fill a few hundred bytes of it.
const V2_MAX: usize = 4096;
/// The addition with a checksum of the whole header, whose own four bytes count as zero.
const CRC32C: u8 = 0x03;

/// What the first bytes of a connection are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Parsed {
    /// The start of a header: more bytes are needed.
    NeedMore,
    /// A header of `length` bytes; what follows it is the client's. `source` is the client, or
    /// `None` where the balancer speaks for itself (a health check) or knows no address.
    Header { source: Option<SocketAddr>, length: usize },
    /// No header.
    Invalid,
}

/// Looks at the first bytes of a connection. Never asks for more than 4,112 bytes.
pub(crate) fn parse(bytes: &[u8]) -> Parsed {
    let begins = |start: &[u8]| {
        let shared = start.len().min(bytes.len());
        start.get(..shared) == bytes.get(..shared)
    };
    if bytes.len() < V2_SIGNATURE.len() && (begins(V1_START) || begins(V2_SIGNATURE)) {
        // The shortest of all headers has 15 bytes.
        return Parsed::NeedMore;
    }
    if begins(V2_SIGNATURE) {
        parse_v2(bytes)
    } else if begins(V1_START) {
        parse_v1(bytes)
    } else {
        Parsed::Invalid
    }
}

fn parse_v1(bytes: &[u8]) -> Parsed {
    let line_feed = memchr::memchr(b'\n', bytes.get(..V1_MAX).unwrap_or(bytes));
    let Some(end) = line_feed else {
        return if bytes.len() < V1_MAX { Parsed::NeedMore } else { Parsed::Invalid };
    };
    let line = bytes.get(V1_START.len()..end).and_then(|line| line.strip_suffix(b"\r"));
    let Some(line) = line.and_then(|line| str::from_utf8(line).ok()) else {
        return Parsed::Invalid;
    };
    let length = end + 1;
    // Whatever else stands in the line is to be ignored then.
    if line == "UNKNOWN" || line.starts_with("UNKNOWN ") {
        return Parsed::Header { source: None, length };
    }
    match v1_source(line) {
        Some(source) => Parsed::Header { source: Some(source), length },
        None => Parsed::Invalid,
    }
}

/// The client in `TCP4 192.0.2.1 198.51.100.1 56324 443`.
fn v1_source(line: &str) -> Option<SocketAddr> {
    let mut fields = line.split(' ');
    let family = fields.next()?;
    let mut address = || -> Option<IpAddr> {
        let text = fields.next()?;
        match family {
            "TCP4" => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
            "TCP6" => text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
            _ => None,
        }
    };
    let (source, _destination) = (address()?, address()?);
    let mut port = || -> Option<u16> {
        let text = fields.next()?;
        // A number's own parser takes a sign and leading zeros.
        let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
        (is_plain && (text == "0" || !text.starts_with('0'))).then(|| text.parse().ok())?
    };
    let (source_port, _destination_port) = (port()?, port()?);
    fields.next().is_none().then(|| SocketAddr::new(source, source_port))
}

fn parse_v2(bytes: &[u8]) -> Parsed {
    let Some(&[command, family, high, low]) =
        bytes.get(V2_SIGNATURE.len()..V2_FIXED).and_then(|fixed| <&[u8; 4]>::try_from(fixed).ok())
    else {
        // What is there of it is checked, so that no connection waits for the rest of an invalid
        // header.
        let command = bytes.get(V2_SIGNATURE.len());
        let is_good = command.is_none_or(|command| matches!(command, 0x20 | 0x21));
        return if is_good { Parsed::NeedMore } else { Parsed::Invalid };
    };
    let rest = usize::from(u16::from_be_bytes([high, low]));
    if !matches!(command, 0x20 | 0x21) || rest > V2_MAX {
        return Parsed::Invalid;
    }
    let length = V2_FIXED + rest;
    let Some(header) = bytes.get(..length) else { return Parsed::NeedMore };
    let Some((source, addresses)) = v2_source(family, header) else { return Parsed::Invalid };
    // A connection of the balancer's own: the rest is to be ignored, whatever it is.
    if command == 0x20 {
        return Parsed::Header { source: None, length };
    }
    if rest < addresses || !additions_are_good(header, V2_FIXED + addresses) {
        return Parsed::Invalid;
    }
    Parsed::Header { source, length }
}

/// The client by the family's layout, and the bytes that the addresses take; `None` for a family
/// that does not come over a stream.
fn v2_source(family: u8, header: &[u8]) -> Option<(Option<SocketAddr>, usize)> {
    let field =
        |start: usize, length: usize| header.get(V2_FIXED + start..V2_FIXED + start + length);
    let port = |start: usize| Some(u16::from_be_bytes(field(start, 2)?.try_into().ok()?));
    let v4 = || {
        let ip = Ipv4Addr::from(<[u8; 4]>::try_from(field(0, 4)?).ok()?);
        Some(SocketAddr::new(ip.into(), port(8)?))
    };
    let v6 = || {
        let ip = Ipv6Addr::from(<[u8; 16]>::try_from(field(0, 16)?).ok()?);
        Some(SocketAddr::new(ip.into(), port(32)?))
    };
    match family {
        // Unspecified.
        0x00 => Some((None, 0)),
        // A stream over IPv4, IPv6, and a Unix socket of the balancer's machine.
        0x11 => Some((v4(), 12)),
        0x21 => Some((v6(), 36)),
        0x31 => Some((None, 216)),
        _ => None,
    }
}

/// True where the additions from `start` on fill the header exactly and a checksum among them is
/// right.
fn additions_are_good(header: &[u8], start: usize) -> bool {
    let mut at = start;
    while at < header.len() {
        let Some(&[kind, high, low]) =
            header.get(at..at + 3).and_then(|head| <&[u8; 3]>::try_from(head).ok())
        else {
            return false;
        };
        let value_at = at + 3;
        at = value_at + usize::from(u16::from_be_bytes([high, low]));
        let Some(value) = header.get(value_at..at) else { return false };
        if kind == CRC32C {
            let Ok(said) = <[u8; 4]>::try_from(value) else { return false };
            let (before, after) = (header.get(..value_at), header.get(at..));
            let parts = [before.unwrap_or_default(), &[0; 4], after.unwrap_or_default()];
            let sum = parts.into_iter().fold(0, crc32c::crc32c_append);
            if sum != u32::from_be_bytes(said) {
                return false;
            }
        }
    }
    true
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    /// A header of version 2.
    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [&V2_SIGNATURE[..], &[command, family], &length, rest].concat()
    }

    /// The addresses of version 2, from 192.0.2.1:56324 to 198.51.100.1:443.
    const V4: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 1, 0xdc, 0x04, 0x01, 0xbb];

    fn v6() -> Vec<u8> {
        let ip = |text: &str| text.parse::<Ipv6Addr>().unwrap().octets();
        [&ip("2001:db8::1")[..], &ip("2001:db8::2"), &[0xdc, 0x04, 0x01, 0xbb]].concat()
    }

    fn with_checksum() -> Vec<u8> {
        let addition = [CRC32C, 0, 4, 0, 0, 0, 0];
        let mut header = v2(0x21, 0x11, &[&V4[..], &[0x04, 0, 1, 0xff], &addition].concat());
        let (sum, at) = (crc32c::crc32c(&header), header.len() - 4);
        header[at..].copy_from_slice(&sum.to_be_bytes());
        header
    }

    /// Valid headers and the client in each.
    fn valid() -> Vec<(Vec<u8>, Option<&'static str>)> {
        let v1 = |text: &str| text.as_bytes().to_vec();
        let (four, six) = (Some("192.0.2.1:56324"), Some("[2001:db8::1]:56324"));
        let longest = format!("PROXY UNKNOWN {}\r\n", "f".repeat(V1_MAX - 16));
        vec![
            (v1("PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n"), four),
            (v1("PROXY TCP6 2001:db8::1 2001:db8::2 56324 443\r\n"), six),
            (v1("PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\n"), Some("0.0.0.0:0")),
            (v1("PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n"), Some("[::ffff:192.0.2.1]:1")),
            (v1("PROXY UNKNOWN\r\n"), None),
            (v1("PROXY UNKNOWN 192.0.2.1 whatever\r\n"), None),
            (v1(&longest), None),
            (v2(0x21, 0x11, &V4), four),
            (v2(0x21, 0x21, &v6()), six),
            (v2(0x21, 0x11, &[&V4[..], &[0x04, 0, 2, 1, 2, 0x02, 0, 1, b'a']].concat()), four),
            (with_checksum(), four),
            (v2(0x21, 0x31, &[b'/'; 216]), None),
            (v2(0x21, 0x00, b""), None),
            (v2(0x21, 0x00, &[0x04, 0, 0]), None),
            (v2(0x20, 0x00, b""), None),
            // What else a health check says is to be ignored.
            (v2(0x20, 0x11, &V4), None),
            (v2(0x20, 0x00, b"no additions"), None),
            (v2(0x21, 0x11, &[&V4[..], &[0x04, 0x0f, 0xf1], &[0; 0xff1]].concat()), four),
        ]
    }

    #[test]
    fn valid_headers_are_read_whatever_follows_and_their_prefixes_are_not_enough() {
        for (header, source) in valid() {
            let source = source.map(|source| source.parse().unwrap());
            let expected = Parsed::Header { source, length: header.len() };
            for rest in [&b""[..], b"\x16\x03\x01", b"\r\n", b"PROXY TCP4 x\r\n"] {
                assert_eq!(parse(&[&header[..], rest].concat()), expected, "{header:?}");
            }
            for cut in 0..header.len() {
                assert_eq!(parse(&header[..cut]), Parsed::NeedMore, "{:?}", &header[..cut]);
            }
        }
    }

    #[test]
    fn all_else_is_invalid() {
        for text in [
            "GET / HTTP/1.1\r\n\r\n",
            "\x16\x03\x01\x02\x00",
            "proxy TCP4 192.0.2.1 198.51.100.1 56324 443\r\n",
            "PROXY  TCP4 192.0.2.1 198.51.100.1 56324 443\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 56324 443 \r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 56324  443\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 56324\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 +5 443\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 05 443\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 65536 443\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 5 \r\n",
            "PROXY TCP4 192.0.2.256 198.51.100.1 5 443\r\n",
            "PROXY TCP4 192.0.2.01 198.51.100.1 5 443\r\n",
            "PROXY TCP4 ::1 ::1 5 443\r\n",
            "PROXY TCP6 192.0.2.1 198.51.100.1 5 443\r\n",
            "PROXY TCP6 ::1 5 443\r\n",
            "PROXY UDP4 192.0.2.1 198.51.100.1 5 443\r\n",
            "PROXY UNKNOWNS\r\n",
            "PROXY \r\n\r\nabcdefg",
            "PROXY \u{e9} \r\nabcdefg",
            "\r\n\r\n\0\r\nQUIT\r\n",
        ] {
            assert_eq!(parse(text.as_bytes()), Parsed::Invalid, "{text:?}");
        }
        let endless = format!("PROXY UNKNOWN {}", "f".repeat(V1_MAX));
        assert_eq!(parse(endless.as_bytes()), Parsed::Invalid);
        let too_long = format!("PROXY UNKNOWN {}\r\n", "f".repeat(V1_MAX - 15));
        assert_eq!(parse(too_long.as_bytes()), Parsed::Invalid);
        for header in [
            v2(0x11, 0x11, &V4),
            v2(0x22, 0x11, &V4),
            // Datagrams do not come over a stream.
            v2(0x21, 0x12, &V4),
            v2(0x21, 0x32, &[b'/'; 216]),
            v2(0x21, 0x01, b""),
            v2(0x21, 0x41, &V4),
            v2(0x21, 0x11, &V4[..11]),
            v2(0x21, 0x21, &V4),
            v2(0x21, 0x31, &[b'/'; 215]),
            v2(0x21, 0x11, &[&V4[..], &[0x04, 0]].concat()),
            v2(0x21, 0x11, &[&V4[..], &[0x04, 0, 1]].concat()),
            v2(0x21, 0x11, &[&V4[..], &[CRC32C, 0, 3, 0, 0, 0]].concat()),
            v2(0x21, 0x11, &[0; V2_MAX + 1]),
        ] {
            assert_eq!(parse(&header), Parsed::Invalid, "{header:?}");
        }
        // Each byte counts for the checksum, but the one that says that it is one.
        let good = with_checksum();
        for at in (V2_FIXED..good.len()).filter(|at| *at != good.len() - 7) {
            let mut header = good.clone();
            header[at] ^= 0x10;
            assert_eq!(parse(&header), Parsed::Invalid, "byte {at}");
        }
        // An invalid header is refused before the rest has come.
        assert_eq!(parse(&v2(0x30, 0x11, &V4)[..13]), Parsed::Invalid);
        assert_eq!(parse(b"X"), Parsed::Invalid);
    }

    proptest! {
        #[test]
        fn any_bytes_have_a_verdict_that_more_bytes_do_not_change(
            start in 0..4_usize, noise: Vec<u8>, more: Vec<u8>,
        ) {
            let starts: [&[u8]; 4] = [b"", V1_START, V2_SIGNATURE, b"PROXY TCP4 192.0.2.1 "];
            let bytes = [starts[start], &noise].concat();
            let all = [&bytes[..], &more].concat();
            match parse(&bytes) {
                Parsed::NeedMore => prop_assert!(bytes.len() < V2_FIXED + V2_MAX),
                Parsed::Header { source, length } => {
                    prop_assert!(length <= bytes.len());
                    prop_assert_eq!(parse(&all), Parsed::Header { source, length });
                }
                Parsed::Invalid => prop_assert_eq!(parse(&all), Parsed::Invalid),
            }
        }
    }
}
