//! Sockets and threads: from the kernel to a connection's bytes and back.
//!
//! | file | what is in it |
//! |---|---|
//! | `runtime` | the one door to monoio and its drivers |
//! | `preflight`, `placement` | whether io_uring is to be had; which CPU each thread gets |
//! | `listener` | the sockets that are listened on |
//! | `peer_limit`, `balancer` | connections of each address; who is behind a balancer |
//! | `acceptor` | takes connections and gives them to shards |
//! | `config_snapshot` | what of the configuration a shard serves by |
//! | `tls` | the handshake and the records over a socket |
//! | `shard` | a thread's connections |
//! | `connection` | one of them |

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
