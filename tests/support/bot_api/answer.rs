//! What a call is answered with.

use serde_json::json;

/// A status and a body of JSON.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
    /// In seconds; said in the header, too.
    pub(super) retry_after: Option<u64>,
    pub(super) content_type: &'static str,
}

impl Answer {
    /// `result` is JSON.
    pub(super) fn ok(result: &str) -> Self {
        Self::new(200, format!("{{\"ok\":true,\"result\":{result}}}"))
    }

    /// `true`, and what was done.
    pub(super) fn done(description: &str) -> Self {
        Self::new(200, format!("{{\"ok\":true,\"result\":true,\"description\":\"{description}\"}}"))
    }

    pub(super) fn fail(status: u16, description: &str) -> Self {
        let body = json!({"ok": false, "error_code": status, "description": description});
        Self::new(status, body.to_string())
    }

    pub(super) fn flood(retry_after: u64) -> Self {
        let body = json!({
            "ok": false,
            "error_code": 429,
            "description": format!("Too Many Requests: retry after {retry_after}"),
            "parameters": {"retry_after": retry_after},
        });
        Self { retry_after: Some(retry_after), ..Self::new(429, body.to_string()) }
    }

    /// As of a proxy whose server is away.
    pub(super) fn bad_gateway() -> Self {
        let body = "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n\
                    <center><h1>502 Bad Gateway</h1></center>\r\n<hr><center>nginx/1.18.0</center>\r\n\
                    </body>\r\n</html>\r\n";
        Self { content_type: "text/html", ..Self::new(502, body.to_owned()) }
    }

    pub(super) fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        Self { status, body, retry_after: None, content_type: "application/json" }
    }

    /// The bytes of the response.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let retry_after =
            self.retry_after.map_or_else(String::new, |time| format!("Retry-After: {time}\r\n"));
        let Self { status, body, content_type, .. } = self;
        let head = format!(
            "HTTP/1.1 {status} {}\r\nServer: nginx/1.18.0\r\nContent-Type: {content_type}\r\n\
             Content-Length: {}\r\nConnection: keep-alive\r\n{retry_after}\r\n",
            reason(*status),
            body.len()
        );
        [head.as_bytes(), body].concat()
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        409 => "Conflict",
        413 => "Request Entity Too Large",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        _ => "Unknown",
    }
}
