//! TLS: records, handshakes, keys, certificates.

mod certificate_reload;
mod certificates;
mod tls;
mod tls_differential;
mod tls_records;
mod tls_surface;
