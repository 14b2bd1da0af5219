//! What a request is, and what an update: whatever bytes come, from whichever client.

mod clients;
mod exactness;
mod habits;
mod http;
mod proxy;
mod update;
mod wire;
