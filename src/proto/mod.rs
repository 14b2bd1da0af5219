//! Bytes in, values out: no socket and no clock.
//!
//! | file | what is in it |
//! |---|---|
//! | `proxy_header` | the header of a balancer |
//! | `http` | requests and answers of HTTP/1.1 |
//! | `answers` | the answers of a shard, with their dates |
//! | `route` | from a request to a bot |
//! | `update` | from a body to an update |

pub(crate) mod answers;
pub mod http;
pub(crate) mod proxy_header;
pub(crate) mod route;
pub mod update;
