//! Sockets and threads: from the kernel to a connection's bytes and back.
//!
//! | file | what is in it |
//! |---|---|
//! | `runtime` | the only user of monoio and its drivers |
//! | `preflight`, `placement` | why io_uring cannot be used; the CPU of each thread |
//! | `listener` | the sockets that are listened on |
//! | `peer_limit`, `balancer` | connections of each address; connections behind a balancer |
//! | `acceptor` | takes connections and gives them to shards |
//! | `config_snapshot` | the part of the configuration by which a shard serves |
//! | `tls` | the handshake and the records over a socket |
//! | `shard` | a thread and its connections |
//! | `connection` | one connection |

pub(crate) mod acceptor;
pub(crate) mod balancer;
pub(crate) mod config_snapshot;
pub(crate) mod connection;
pub(crate) mod listener;
pub(crate) mod peer_limit;
pub(crate) mod placement;
pub(crate) mod preflight;
pub(crate) mod runtime;
pub(crate) mod shard;
pub(crate) mod tls;
