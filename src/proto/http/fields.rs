//! The header fields: the few that matter are read, the rest is only checked for form.

use super::{
    ConnectionDirective, HttpLimits, Method, RequestHead, Status, Version, authority,
    head::Framing, syntax::list,
};

/// Fields that most clients keep below; more are parsed into the larger array.
const FEW: usize = 16;

/// Reads the `count` lines of `section`, which ends with its empty line, into `head`, and decides
/// what becomes of the connection.
///
/// httparse checks the form of each line: name, colon without a blank before it, value without
/// control bytes, no folding. Its caller has made sure that every line ends with CR LF, which
/// httparse does not ask for.
///
/// # Errors
///
/// 400 for fields that break a rule or contradict each other, 413 for a declared length over the
/// limit, 415 for coded content, 417 for an unknown expectation, 431 for more fields than can be
/// held, 501 for an unknown transfer coding under `chunked`. Where several apply, the first field
/// in the head that is wrong by itself decides; contradictions come last, and transfer codings with
/// them, since all fields of them are one list.
pub(super) fn read<'a>(
    section: &'a [u8],
    count: usize,
    limits: &HttpLimits,
    head: &mut RequestHead<'a>,
) -> Result<ConnectionDirective, Status> {
    let mut few;
    let mut many;
    // Preparing 128 slots costs as much as parsing the whole head of a usual request.
    let slots = if count <= FEW {
        few = [httparse::EMPTY_HEADER; FEW];
        few.as_mut_slice()
    } else {
        many = [httparse::EMPTY_HEADER; HttpLimits::HEADERS_MAX];
        many.as_mut_slice()
    };
    let fields = match httparse::parse_headers(section, slots) {
        Ok(httparse::Status::Complete((end, fields))) if end == section.len() => fields,
        Err(httparse::Error::TooManyHeaders) => return Err(Status::HeaderTooLarge),
        Ok(_) | Err(_) => return Err(Status::BadRequest),
    };
    let mut seen = FieldsRead::default();
    for field in fields {
        seen.read(field.name.as_bytes(), field.value, head)?;
    }
    seen.settle(limits, head)
}

/// What has been read of fields that depend on each other.
#[derive(Default)]
struct FieldsRead<'a> {
    close: bool,
    content_length: Option<u64>,
    host: Option<&'a str>,
    keep_alive: bool,
    codings: Option<Codings>,
}

/// The transfer codings of a request, in all fields together.
#[derive(Default)]
struct Codings {
    /// How many fields there are.
    fields: usize,
    /// How often `chunked` is among them.
    chunked: usize,
    /// Whether it is the last one.
    ends_chunked: bool,
    /// Whether there are others.
    others: bool,
}

impl<'a> FieldsRead<'a> {
    /// Takes one field in. Names are distinguished by their length first, which differs for all.
    fn read(
        &mut self,
        name: &[u8],
        value: &'a [u8],
        head: &mut RequestHead<'a>,
    ) -> Result<(), Status> {
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"Host") => self.host(value),
            6 if name.eq_ignore_ascii_case(b"Expect") => expect(value, head),
            10 if name.eq_ignore_ascii_case(b"Connection") => {
                self.connection(value);
                Ok(())
            }
            13 if name.eq_ignore_ascii_case(b"Authorization") => {
                head.authorization.add(value);
                Ok(())
            }
            14 if name.eq_ignore_ascii_case(b"Content-Length") => self.content_length(value),
            16 if name.eq_ignore_ascii_case(b"Content-Encoding") => content_encoding(value),
            17 if name.eq_ignore_ascii_case(b"Transfer-Encoding") => {
                self.codings.get_or_insert_default().add(value);
                Ok(())
            }
            31 if name.eq_ignore_ascii_case(b"X-Telegram-Bot-Api-Secret-Token") => {
                head.secret_token.add(value);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// RFC 9112 section 3.2: once, and valid.
    fn host(&mut self, value: &'a [u8]) -> Result<(), Status> {
        if self.host.is_some() {
            return Err(Status::BadRequest);
        }
        self.host = Some(authority::parse(value).ok_or(Status::BadRequest)?);
        Ok(())
    }

    /// RFC 9112 section 9.3; other options are ignored.
    fn connection(&mut self, value: &[u8]) {
        for option in list(value) {
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }

    /// RFC 9110 section 8.6: one number of decimal digits. Equal numbers in a list or in several
    /// fields could be accepted; only probes send them.
    fn content_length(&mut self, value: &[u8]) -> Result<(), Status> {
        if self.content_length.is_some() || value.is_empty() {
            return Err(Status::BadRequest);
        }
        let mut length: u64 = 0;
        for byte in value {
            if !byte.is_ascii_digit() {
                return Err(Status::BadRequest);
            }
            length = length
                .checked_mul(10)
                .and_then(|length| length.checked_add(u64::from(byte - b'0')))
                .ok_or(Status::BadRequest)?;
        }
        self.content_length = Some(length);
        Ok(())
    }

    /// The rules between fields, and the framing that follows from them.
    fn settle(
        self,
        limits: &HttpLimits,
        head: &mut RequestHead<'a>,
    ) -> Result<ConnectionDirective, Status> {
        let is_http_11 = head.version == Version::Http11;
        if is_http_11 && self.host.is_none() {
            return Err(Status::BadRequest);
        }
        head.host = head.host.or(self.host);
        head.framing = match (self.content_length, self.codings) {
            // Two lengths, or a coding that HTTP/1.0 does not know, are how requests are smuggled
            // (RFC 9112 sections 6.1 and 11.2).
            (Some(_), Some(_)) => return Err(Status::BadRequest),
            (None, Some(_)) if !is_http_11 => return Err(Status::BadRequest),
            (None, Some(codings)) => codings.framing()?,
            (Some(length), None) => match usize::try_from(length) {
                Ok(length) if length <= limits.body_bytes => Framing::Length(length),
                _ => return Err(Status::PayloadTooLarge),
            },
            // RFC 9110 section 8.6 would let it be empty: for a webhook that is a broken client.
            (None, None) if head.method == Method::Post => return Err(Status::BadRequest),
            (None, None) => Framing::None,
        };
        // RFC 9110 section 10.1.1: HTTP/1.0 cannot expect, and no content needs no invitation.
        head.expects_continue &=
            is_http_11 && !matches!(head.framing, Framing::None | Framing::Length(0));
        Ok(match (self.close, is_http_11, self.keep_alive) {
            (false, true, _) => ConnectionDirective::Persist,
            (false, false, true) => ConnectionDirective::KeepAlive,
            _ => ConnectionDirective::Close,
        })
    }
}

impl Codings {
    /// Takes one field in.
    fn add(&mut self, value: &[u8]) {
        self.fields = self.fields.saturating_add(1);
        for coding in list(value) {
            self.ends_chunked = coding.eq_ignore_ascii_case(b"chunked");
            if self.ends_chunked {
                self.chunked = self.chunked.saturating_add(1);
            } else {
                self.others = true;
            }
        }
    }

    /// RFC 9112 section 6.3: where `chunked` is not the last coding, the end of the content is not
    /// known, and 400 is a must. Section 7: `chunked` takes no parameters, and nothing is chunked
    /// twice. Section 6.1: 501 for codings that are not understood. A further field that adds
    /// nothing would do no harm here (RFC 9110 section 5.6.1), but a parser that reads only the
    /// last one sees an empty one; only probes send it.
    fn framing(&self) -> Result<Framing, Status> {
        if !self.ends_chunked || self.chunked > 1 {
            Err(Status::BadRequest)
        } else if self.others {
            Err(Status::NotImplemented)
        } else if self.fields > 1 {
            Err(Status::BadRequest)
        } else {
            Ok(Framing::Chunked)
        }
    }
}

/// RFC 9110 section 10.1.1.
fn expect(value: &[u8], head: &mut RequestHead<'_>) -> Result<(), Status> {
    for expectation in list(value) {
        if !expectation.eq_ignore_ascii_case(b"100-continue") {
            return Err(Status::ExpectationFailed);
        }
        head.expects_continue = true;
    }
    Ok(())
}

/// RFC 9110 section 8.4: content is parsed as it is.
fn content_encoding(value: &[u8]) -> Result<(), Status> {
    if list(value).all(|coding| coding.eq_ignore_ascii_case(b"identity")) {
        Ok(())
    } else {
        Err(Status::UnsupportedMediaType)
    }
}
