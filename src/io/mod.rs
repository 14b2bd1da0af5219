//! Sockets and threads: from the kernel to a connection's bytes and back.
//!
//! | file | what is in it |
//! |---|---|
//! | `runtime` | the one door to monoio and its drivers |
//! | `preflight`, `cpu_affinity` | whether io_uring is to be had; which CPU each thread gets |
//! | `listener` | the sockets that are listened on |
//! | `peer_limit`, `balancer` | connections of each address; the client behind a balancer |
//! | `config_snapshot` | what of the configuration a shard serves by |
//! | `memory_pools`, `background` | a shard's memory, and its tasks that belong to no connection |
//! | `connection_table`, `longest_idle` | what each connection waits for, and until when |
//! | `handshake_scheduler` | how handshakes share a shard with established connections |
//! | `tls` | the handshake and the records over a socket |
//! | `accepted`, `connection` | a connection before its shard has it, and then |
//! | `shard` | a thread's connections |
//! | `acceptor` | takes connections and gives them to shards |

pub(crate) mod accepted;
pub(crate) mod acceptor;
pub(crate) mod background;
pub(crate) mod balancer;
pub(crate) mod config_snapshot;
pub(crate) mod connection;
pub(crate) mod connection_table;
pub(crate) mod cpu_affinity;
pub(crate) mod handshake_scheduler;
pub(crate) mod listener;
pub(crate) mod longest_idle;
pub(crate) mod memory_pools;
pub(crate) mod peer_limit;
pub(crate) mod preflight;
pub(crate) mod runtime;
pub(crate) mod shard;
pub(crate) mod tls;
