//! HTTP/1.1 as Telegram's sender speaks it: bytes in, requests out; no sockets, no clocks.
//!
//! [`HttpSession`] reads the requests of one connection, one after the other. The caller owns the
//! receive buffer, hands over its unread bytes, and forgets as many as the session consumed:
//!
//! ```
//! use ringhook::internals::{
//!     http::{ConnectionDirective, HttpLimits, HttpSession, Status, Step, response},
//!     update::UpdateBody,
//! };
//!
//! let mut unread: &[u8] = b"POST /hook HTTP/1.1\r\nHost: bot\r\nContent-Length: 2\r\n\r\n{}";
//! let mut session = HttpSession::new(HttpLimits::default());
//! let mut answers = Vec::new();
//! loop {
//!     let (consumed, step) = session.advance(unread);
//!     unread = unread.get(consumed..).unwrap_or_default();
//!     match step {
//!         Step::Head(head) if head.path == "/hook" => session.accept_body(UpdateBody::default()),
//!         Step::Head(_) => session.discard_body(),
//!         Step::Complete => {
//!             let is_taken = session.take_body().is_some();
//!             let status = if is_taken { Status::Ok } else { Status::NotFound };
//!             answers.push(response(status, session.directive()));
//!         }
//!         Step::Reject(status) => answers.push(response(status, ConnectionDirective::Close)),
//!         // A server reads more bytes, or closes the connection.
//!         Step::NeedMore | Step::Closed => break,
//!     }
//! }
//! assert_eq!(answers, [b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"]);
//! ```
//!
//! The result never depends on where the network cut a request: every rejection is decided by the
//! bytes up to the one that caused it, in the order in which they came.
//!
//! | file | question |
//! |---|---|
//! | `session` | what happens next on a connection; which head has too many bytes or fields |
//! | `limits` | how much of anything is too much |
//! | `syntax` | which byte is allowed where |
//! | `scan` | where a line of the head ends, and the head |
//! | `request_line` | method and version |
//! | `target` | which path is meant |
//! | `authority` | whether a host is one |
//! | `head` | what the caller may know about a request |
//! | `fields` | what the header fields say, and how long the body is |
//! | `body`, `chunked` | where the body ends |
//! | `status`, `response` | what is answered |

mod authority;
mod body;
mod chunked;
mod fields;
mod head;
mod limits;
mod request_line;
mod response;
mod scan;
mod session;
mod status;
mod syntax;
mod target;

pub use head::{Credential, Framing, RequestHead};
pub use limits::HttpLimits;
pub use request_line::{Method, Version};
pub use response::{CONTINUE, ConnectionDirective, DATE_BYTES, dated_response, response};
pub use session::{HttpSession, Step};
pub use status::Status;
