//! PEM text as it is found in practice, brought into the form that its reader knows: the reader
//! takes a section only where BEGIN and END stand at the beginning of a line, and skips all else.

use std::path::Path;

use zeroize::Zeroizing;

/// What a keystore of Java's own kind begins with.
const JKS: [u8; 4] = [0xfe, 0xed, 0xfe, 0xed];
/// As above, of the kind for keys other than private ones.
const JCEKS: [u8; 4] = [0xce, 0xce, 0xce, 0xce];
const BOM: &[u8] = b"\xef\xbb\xbf";
const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END ";
/// Kinds of sections that stand beside a certificate or a key without being one.
const BESIDE: [&[u8]; 2] = [b"DH PARAMETERS", b"EC PARAMETERS"];

/// What was made of a text.
#[derive(Debug)]
pub(super) struct Tidied {
    /// What of the text is passed over, each with its line.
    pub(super) skipped: Vec<String>,
    /// Sections only, each line of them on one of its own.
    pub(super) text: Zeroizing<Vec<u8>>,
}

/// Brings `text` into that form, or says what keeps it from being read.
pub(super) fn tidy(text: &[u8]) -> Result<Tidied, String> {
    if text.starts_with(b"\xff\xfe") || text.starts_with(b"\xfe\xff") {
        return Err("is in UTF-16: save it as UTF-8, or as plain text".to_owned());
    }
    let mut tidied = Tidied { skipped: Vec::new(), text: Zeroizing::new(Vec::new()) };
    // The number of the line in which the section begins.
    let mut section: Option<usize> = None;
    for (line, number) in lines(text).zip(1_usize..) {
        let mut rest = without_lead(line);
        let mut is_first = true;
        while !rest.is_empty() {
            let begin = memchr::memmem::find(rest, BEGIN);
            let end = memchr::memmem::find(rest, END);
            let place = match (begin, end) {
                (Some(begin), Some(end)) => Some(begin.min(end)),
                (begin, end) => begin.or(end),
            };
            let (before, marked) = rest.split_at(place.unwrap_or(rest.len()));
            let is_begin = place.is_some() && place == begin;
            let before = before.trim_ascii();
            if !before.is_empty() && section.is_some() {
                // As it is where a key has lines that say how it is encrypted.
                match before.contains(&b':') {
                    true => tidied.add(before),
                    false => {
                        before.split(u8::is_ascii_whitespace).for_each(|part| tidied.add(part))
                    }
                }
            } else if !before.is_empty() && is_begin {
                if !is_first || !is_comment(before) {
                    return Err(format!(
                        "line {number}: a BEGIN that does not begin its line: put it on a line of its \
                         own"
                    ));
                }
                tidied.skipped.push(format!("line {number}: a BEGIN in a comment"));
                break;
            }
            is_first = false;
            if marked.is_empty() {
                break;
            }
            // Its label, and the five hyphens that end it.
            let label_at = if is_begin { BEGIN.len() } else { END.len() };
            let inside = marked.get(label_at..).unwrap_or_default();
            let length = memchr::memmem::find(inside, b"-----");
            let whole = length.map_or(marked.len(), |length| label_at + length + 5);
            let (marker, behind) = marked.split_at(whole.min(marked.len()));
            let label = inside.get(..length.unwrap_or(0)).unwrap_or_default();
            match (is_begin, section) {
                (true, Some(begun)) => {
                    return Err(format!(
                        "line {number}: a BEGIN before the END of the section of line {begun}: is \
                         something cut off?"
                    ));
                }
                (true, None) => {
                    section = Some(number);
                    tidied.begin(label, number)?;
                }
                (false, Some(_)) => {
                    section = None;
                    tidied.end(label);
                }
                (false, None) => {
                    tidied.skipped.push(format!("line {number}: an END without a BEGIN"));
                }
            }
            if length.is_none() && is_begin {
                // The reader says what is wrong with it.
                tidied.add(marker);
            }
            rest = without_lead(behind);
        }
    }
    Ok(tidied)
}

impl Tidied {
    fn add(&mut self, line: &[u8]) {
        self.text.extend_from_slice(line);
        self.text.push(b'\n');
    }

    fn begin(&mut self, label: &[u8], number: usize) -> Result<(), String> {
        let shown = String::from_utf8_lossy(label);
        match label {
            b"TRUSTED CERTIFICATE" => {
                return Err(format!(
                    "line {number}: a TRUSTED CERTIFICATE of OpenSSL: make it a plain one with \
                     `openssl x509 -in FILE -out NEW`"
                ));
            }
            b"PKCS7" | b"CMS" | b"PKCS #7 SIGNED DATA" => {
                return Err(format!(
                    "line {number}: a {shown}: take the certificates out of it with `openssl pkcs7 \
                     -print_certs -in FILE -out NEW`"
                ));
            }
            b"" => return Ok(()),
            _ => {}
        }
        let plain = plain(label);
        let is_known = plain == b"CERTIFICATE" || plain.ends_with(b"PRIVATE KEY");
        if !is_known && !BESIDE.contains(&plain) {
            self.skipped.push(format!("line {number}: a section of another kind ({shown:?})"));
        }
        self.add(&[BEGIN, plain, b"-----"].concat());
        Ok(())
    }

    fn end(&mut self, label: &[u8]) {
        self.add(&[END, plain(label), b"-----"].concat());
    }
}

/// The label by which the reader knows it.
fn plain(label: &[u8]) -> &[u8] {
    match label {
        b"X509 CERTIFICATE" => b"CERTIFICATE",
        other => other,
    }
}

/// What a file that holds no PEM is instead; `None` where that is not known.
pub(super) fn foreign(data: &[u8], name: &str) -> Option<String> {
    if is_keystore(data) {
        return Some(java_keystore(name));
    }
    is_pkcs12(data).then(|| {
        format!(
            "{name} is PKCS#12 (.p12, .pfx): `ringhook cert import {name}` makes a chain and a key of \
             it"
        )
    })
}

/// True for a keystore of Java's own kind.
pub fn is_keystore(data: &[u8]) -> bool {
    data.starts_with(&JKS) || data.starts_with(&JCEKS)
}

/// What is said of a Java keystore in the file `name`.
pub fn java_keystore(name: &str) -> String {
    format!(
        "{name} is a Java keystore (JKS): convert it with `keytool -importkeystore -srckeystore {name} \
         -destkeystore {p12} -deststoretype PKCS12`, then `ringhook cert import {p12}`",
        p12 = Path::new(name).with_extension("p12").display()
    )
}

/// True for the beginning of a PFX in DER (RFC 7292 section 4): a sequence whose first element is
/// the number 3.
fn is_pkcs12(data: &[u8]) -> bool {
    let Some((0x30, rest)) = data.split_first().map(|(first, rest)| (*first, rest)) else {
        return false;
    };
    let length_bytes = match rest.first() {
        // The whole length, or none at all.
        Some(0..=0x80) => 0,
        Some(long) => usize::from(long & 0x7f),
        None => return false,
    };
    rest.get(1 + length_bytes..).is_some_and(|inside| inside.starts_with(&[0x02, 0x01, 0x03]))
}

/// Lines, however they end.
fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n').flat_map(|line| {
        // One at its end belongs to the line feed.
        line.strip_suffix(b"\r").unwrap_or(line).split(|byte| *byte == b'\r')
    })
}

/// `line` without what editors put in front: white space, and a byte order mark of each file that
/// was put together.
fn without_lead(mut line: &[u8]) -> &[u8] {
    loop {
        line = line.trim_ascii();
        match line.strip_prefix(BOM) {
            Some(rest) => line = rest,
            None => return line,
        }
    }
}

fn is_comment(before: &[u8]) -> bool {
    [&b"#"[..], b";", b"//"].iter().any(|sign| before.starts_with(sign))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const ONE: &str = "-----BEGIN CERTIFICATE-----\nAAAA\nBBBB\n-----END CERTIFICATE-----\n";

    fn text(of: &str) -> String {
        String::from_utf8(tidy(of.as_bytes()).unwrap().text.to_vec()).unwrap()
    }

    #[test]
    fn sections_are_read_however_their_files_were_put_together() {
        let two = format!("{ONE}{ONE}");
        let bare = ONE.trim_end();
        for of in [
            two.clone(),
            two.replace('\n', "\r\n"),
            two.replace('\n', "\r"),
            format!("{bare}{bare}"),
            format!("{bare} {bare}"),
            format!("\u{feff}{ONE}{ONE}"),
            format!("{ONE}\u{feff}{ONE}"),
            format!("{bare}\u{feff}{bare}"),
            format!("subject=CN = x\n\n{ONE}\nissuer=y\n{ONE}text"),
            format!("    {}", two.replace('\n', "\n    ")),
            ONE.replace('\n', " ").repeat(2),
            two.replace("\n-----END", "-----END"),
            two.replace("-----\nAAAA", "-----AAAA"),
            two.replace("CERTIFICATE", "X509 CERTIFICATE"),
        ] {
            assert_eq!(text(&of), two, "{of:?}");
            assert!(tidy(of.as_bytes()).unwrap().skipped.is_empty(), "{of:?}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_named_with_its_line() {
        let refused = |text: &str| tidy(text.as_bytes()).unwrap_err();
        let beside = refused(&format!("{ONE}x {ONE}"));
        assert!(beside.starts_with("line 5: a BEGIN that does not begin its line"), "{beside}");
        let cut = refused(&format!("-----BEGIN CERTIFICATE-----\nAAAA\n{ONE}"));
        assert!(
            cut.starts_with("line 3: a BEGIN before the END of the section of line 1"),
            "{cut}"
        );
        let trusted = refused(&ONE.replace("CERTIFICATE", "TRUSTED CERTIFICATE"));
        assert!(trusted.starts_with("line 1: a TRUSTED CERTIFICATE"), "{trusted}");
        let wide = tidy(b"\xff\xfe-\0-\0").unwrap_err();
        assert!(wide.contains("UTF-16"), "{wide}");
    }

    #[test]
    fn what_is_passed_over_is_reported() {
        let skipped = |text: &str| tidy(text.as_bytes()).unwrap().skipped;
        let comment = format!("# {}\n{ONE}", ONE.trim_end().replace('\n', "\n# "));
        assert_eq!(text(&comment), ONE);
        assert_eq!(
            skipped(&comment),
            ["line 1: a BEGIN in a comment", "line 4: an END without a BEGIN"]
        );
        let other = ONE.replace("CERTIFICATE", "X509 CRL");
        assert_eq!(skipped(&other), ["line 1: a section of another kind (\"X509 CRL\")"]);
        assert!(skipped(&ONE.replace("CERTIFICATE", "EC PARAMETERS")).is_empty());
        assert!(skipped(&ONE.replace("CERTIFICATE", "EC PRIVATE KEY")).is_empty());
    }

    #[test]
    fn keystores_are_known_by_their_first_bytes() {
        for (data, word) in [
            (&b"\xfe\xed\xfe\xed\0\0\0\x02"[..], "keytool"),
            (b"\xce\xce\xce\xce\0\0\0\x02", "keytool"),
            (b"\x30\x82\x04\x00\x02\x01\x03\x30", "ringhook cert import"),
            (b"\x30\x80\x02\x01\x03\x30", "ringhook cert import"),
        ] {
            assert!(foreign(data, "x.jks").unwrap().contains(word));
        }
        for data in
            [&b""[..], b"\x30", b"\x30\x82", b"\x30\x82\x04\x00\x30\x82", b"\x30\x03\x02\x01\x00"]
        {
            assert_eq!(foreign(data, "x"), None);
        }
    }
}
