//! Requests as clients of the Bot API send them: parameters in the query, in a form, as JSON or in
//! parts.

use std::{collections::BTreeMap, io::Read, time::Instant};

use serde_json::Value;

use super::{answer::Answer, calls::Call};

type Parameters = BTreeMap<String, String>;
type Files = BTreeMap<String, Vec<u8>>;

/// A request that has come in full.
pub(super) struct Request {
    verb: String,
    target: String,
    /// Field names in lower case.
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

/// Requests from one connection.
pub(super) struct Requests<S> {
    stream: S,
    unread: Vec<u8>,
}

impl<S: Read> Requests<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, unread: Vec::new() }
    }

    /// The next request; `None` where the connection ends or what comes is none.
    pub(super) fn next(&mut self) -> Option<Request> {
        let (verb, target, headers) = loop {
            let mut fields = [httparse::EMPTY_HEADER; 64];
            let mut head = httparse::Request::new(&mut fields);
            match head.parse(&self.unread).ok()? {
                httparse::Status::Complete(length) => {
                    let field = |field: &httparse::Header<'_>| {
                        let value = String::from_utf8_lossy(field.value).into_owned();
                        (field.name.to_ascii_lowercase(), value)
                    };
                    let headers: BTreeMap<_, _> = head.headers.iter().map(field).collect();
                    let (verb, target) = (head.method?.to_owned(), head.path?.to_owned());
                    self.unread.drain(..length);
                    break (verb, target, headers);
                }
                httparse::Status::Partial => self.read_more()?,
            }
        };
        let is_chunked = headers.get("transfer-encoding").is_some_and(|it| it.contains("chunked"));
        let body = if is_chunked {
            self.chunks()?
        } else {
            let length = headers.get("content-length").map_or(Ok(0), |length| length.parse());
            self.take(length.ok()?)?
        };
        Some(Request { verb, target, headers, body })
    }

    fn chunks(&mut self) -> Option<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.line()?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(size, 16).ok()?;
            if size == 0 {
                while !self.line()?.is_empty() {}
                return Some(body);
            }
            body.extend(self.take(size)?);
            self.line()?;
        }
    }

    fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = find(&self.unread, b"\r\n") {
                let line = self.take(end)?;
                self.take(2)?;
                return String::from_utf8(line).ok();
            }
            self.read_more()?;
        }
    }

    fn take(&mut self, length: usize) -> Option<Vec<u8>> {
        while self.unread.len() < length {
            self.read_more()?;
        }
        Some(self.unread.drain(..length).collect())
    }

    fn read_more(&mut self) -> Option<()> {
        let mut chunk = [0; 16 * 1024];
        let length = self.stream.read(&mut chunk).ok().filter(|length| *length > 0)?;
        self.unread.extend_from_slice(&chunk[..length]);
        Some(())
    }
}

impl Request {
    /// The connection is kept after the answer unless the client says otherwise.
    pub(super) fn is_last(&self) -> bool {
        self.headers.get("connection").is_some_and(|it| it.eq_ignore_ascii_case("close"))
    }

    /// What is called, or the answer to what is no call.
    pub(super) fn into_call(self) -> Result<Call, Answer> {
        let (path, query) = self.target.split_once('?').unwrap_or((&self.target, ""));
        let path = decoded(path, false);
        let missing = || Answer::fail(404, "Not Found");
        let (token, method) =
            path.strip_prefix("/bot").and_then(|rest| rest.split_once('/')).ok_or_else(missing)?;
        let method = method.strip_prefix("test/").unwrap_or(method);
        if self.verb != "GET" && self.verb != "POST" {
            return Err(Answer::fail(405, "Method Not Allowed: only GET and POST are allowed"));
        }
        let mut call = Call {
            at: Instant::now(),
            verb: self.verb.clone(),
            token: token.to_owned(),
            method: method.trim_end_matches('/').to_owned(),
            parameters: form(query),
            files: Files::new(),
            status: None,
        };
        let kind = self.headers.get("content-type").map_or("", String::as_str);
        let is = |name: &str| kind.to_ascii_lowercase().starts_with(name);
        if is("application/x-www-form-urlencoded") {
            call.parameters.extend(form(&String::from_utf8_lossy(&self.body)));
        } else if is("application/json") && !self.body.is_empty() {
            call.parameters.extend(fields(&self.body)?);
        } else if is("multipart/form-data") {
            let bad = || Answer::fail(400, "Bad Request: boundary field not found");
            let boundary = boundary(kind).ok_or_else(bad)?;
            for part in parts(&self.body, &boundary) {
                if part.is_file {
                    call.files.insert(part.name, part.content);
                } else {
                    let text = String::from_utf8_lossy(&part.content).into_owned();
                    call.parameters.insert(part.name, text);
                }
            }
        }
        Ok(call)
    }
}

/// The fields of an object, all as text.
fn fields(body: &[u8]) -> Result<Parameters, Answer> {
    let bad = || Answer::fail(400, "Bad Request: can't parse JSON: object expected");
    let object: BTreeMap<String, Value> = serde_json::from_slice(body).map_err(|_| bad())?;
    let text = |value: Value| match value {
        Value::String(text) => text,
        Value::Null => String::new(),
        other => other.to_string(),
    };
    Ok(object.into_iter().map(|(name, value)| (name, text(value))).collect())
}

fn form(text: &str) -> Parameters {
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(name, true), decoded(value, true))
        })
        .collect()
}

/// Without percent signs. In forms, a plus is a space.
fn decoded(text: &str, is_form: bool) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        let hex = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        let byte = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (first, byte) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            (b'+', _) if is_form => bytes.push(b' '),
            (other, _) => bytes.push(*other),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

struct Part {
    name: String,
    /// True where a file name was given.
    is_file: bool,
    content: Vec<u8>,
}

fn boundary(content_type: &str) -> Option<String> {
    let at = content_type.to_ascii_lowercase().find("boundary=")?;
    let boundary = content_type[at + 9..].split(';').next()?.trim().trim_matches('"');
    (!boundary.is_empty()).then(|| boundary.to_owned())
}

/// The parts that are whole.
fn parts(body: &[u8], boundary: &str) -> Vec<Part> {
    let between = format!("\r\n--{boundary}");
    // The first one may stand at the start.
    let body = [b"\r\n", body].concat();
    let mut parts = Vec::new();
    let mut rest = &body[..];
    while let Some(at) = find(rest, between.as_bytes()) {
        rest = &rest[at + between.len()..];
        let Some(end) = find(rest, between.as_bytes()) else { break };
        parts.extend(part(&rest[..end]));
    }
    parts
}

/// One part, from the end of its boundary on.
fn part(bytes: &[u8]) -> Option<Part> {
    let bytes = bytes.strip_prefix(b"\r\n")?;
    let end = find(bytes, b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&bytes[..end]);
    let mut lines = head.split("\r\n");
    let is_wanted = |line: &&str| line.to_ascii_lowercase().starts_with("content-disposition:");
    let disposition = lines.find(is_wanted)?;
    let value = |name: &str| {
        let found = disposition.split(';').map(str::trim);
        let mut found = found.filter_map(|it| it.strip_prefix(name)?.strip_prefix('='));
        found.next().map(|value| value.trim_matches('"').to_owned())
    };
    let is_file = value("filename").is_some() || value("filename*").is_some();
    Some(Part { name: value("name")?, is_file, content: bytes[end + 4..].to_vec() })
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    memchr::memmem::find(bytes, wanted)
}
