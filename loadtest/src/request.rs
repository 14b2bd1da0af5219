//! The bytes of a request, header for header as Telegram sends them.

use crate::{Target, payload::push_number};

/// Everything of a request that stays the same.
pub(crate) struct RequestHead {
    before_length: Vec<u8>,
}

impl RequestHead {
    pub(crate) fn new(target: &Target, secret_token: Option<&str>) -> Self {
        let mut head =
            format!("POST {} HTTP/1.1\r\nHost: {}\r\n", target.path(), target.authority());
        if let Some(user) = target.user() {
            head.push_str(&format!("Authorization: Basic {}\r\n", base64(user.as_bytes())));
        }
        if let Some(token) = secret_token {
            head.push_str(&format!("X-Telegram-Bot-Api-Secret-Token: {token}\r\n"));
        }
        head.push_str("Content-Type: application/json\r\nContent-Length: ");
        Self { before_length: head.into_bytes() }
    }

    /// Appends the head of a request with a body of `length` bytes.
    pub(crate) fn write(&self, out: &mut Vec<u8>, length: usize) {
        out.extend_from_slice(&self.before_length);
        push_number(out, length as u64);
        out.extend_from_slice(
            b"\r\nConnection: keep-alive\r\nAccept-Encoding: gzip, deflate\r\n\r\n",
        );
    }
}

/// Base64 with padding. A crate for one header that is written once would be out of proportion.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let byte = |index| u32::from(chunk.get(index).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for index in 0..4 {
            // Six bits are always below 64.
            #[allow(clippy::indexing_slicing)]
            let letter = LETTERS[(bits >> (18 - 6 * index)) as usize & 63];
            text.push(if index <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn headers_come_in_telegrams_order() {
        let target = "https://me:pw@example.org:8443/hook".parse().unwrap();
        let mut out = Vec::new();
        RequestHead::new(&target, Some("s3cret")).write(&mut out, 1234);
        let expected = "POST /hook HTTP/1.1\r\n\
            Host: example.org:8443\r\n\
            Authorization: Basic bWU6cHc=\r\n\
            X-Telegram-Bot-Api-Secret-Token: s3cret\r\n\
            Content-Type: application/json\r\n\
            Content-Length: 1234\r\n\
            Connection: keep-alive\r\n\
            Accept-Encoding: gzip, deflate\r\n\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn base64_pads() {
        for (plain, coded) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v")] {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }
}
