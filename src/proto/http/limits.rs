//! The limits on one request.

/// Bounds on one request. All are inclusive: what is exactly as long as its limit passes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HttpLimits {
    /// Bytes of content; more are answered with 413, at once where they are declared.
    pub body_bytes: usize,
    /// Bytes of chunk extensions in one body, all chunks together; more are answered with 400
    /// (RFC 9112 section 7.1.1 asks for a bound and some 4xx).
    pub extension_bytes: usize,
    /// Bytes of a request line and its header fields with the empty line; more are answered with
    /// 431, or with 414 where not even the request line ended. The caller's receive buffer has to
    /// hold that many bytes, since a head is read in one piece.
    pub head_bytes: usize,
    /// Header fields; more are answered with 431. Never more than [`Self::HEADERS_MAX`].
    pub headers: usize,
    /// Bytes of a request target; more are answered with 414.
    pub target_bytes: usize,
    /// Bytes of a chunked body's trailer section with its line ends; more are answered with 431.
    pub trailer_bytes: usize,
}

impl HttpLimits {
    /// The most header fields a request can be allowed: they are parsed into an array on the stack.
    pub const HEADERS_MAX: usize = 128;
}

impl Default for HttpLimits {
    /// Twice what Telegram's sender sends at most: it keeps to 4 KiB of head and 512 KiB of body.
    fn default() -> Self {
        Self {
            body_bytes: 1024 * 1024,
            extension_bytes: 1024,
            head_bytes: 8 * 1024,
            headers: 64,
            target_bytes: 4 * 1024,
            trailer_bytes: 1024,
        }
    }
}
