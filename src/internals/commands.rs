//! What the command line needs of the rooms, under their names.

pub mod bots {
    pub use crate::bots::{BotId, BotKey, BotRegistry};
}
pub mod config {
    pub use crate::config::value;
    pub mod allow {
        pub use crate::config::allow::admits;
    }
}
pub mod dispatch {
    pub use crate::dispatch::RecordId;
}
pub mod duration {
    pub use crate::duration::nanos;
}
pub mod files {
    pub use crate::files::{Dir, How, Over, User, at, for_user, open, read_text, text_file, watch};
}
pub mod io {
    pub mod listener {
        pub use crate::io::listener::{BACKLOG, SocketFile, Terms, terms, unix_socket};
    }
    pub mod cpu_affinity {
        pub use crate::io::cpu_affinity::Ranges;
    }
    pub mod preflight {
        pub use crate::io::preflight::ring_advice;
    }
    pub mod runtime {
        pub use crate::io::runtime::Runtime;
    }
}
pub mod journal {
    pub use crate::journal::{Directory, RecordHeader, RecoveryError, inspect, now_us};
}
pub mod observe {
    pub mod incidents {
        pub use crate::observe::incidents::{IncidentKind, IncidentWriter};
    }
    pub mod metrics {
        pub use crate::observe::metrics::{Intervals, Metrics, PollMetrics, Polls, Webhooks};
    }
}
pub mod redact {
    pub use crate::redact::{HIDDEN, SECRET_MIN, hide_tokens, is_secret};
}
pub mod server {
    pub use crate::server::{Inlet, not_owned, unreadable};
}
pub mod tls {
    pub use crate::tls::{
        chain, check, facts, form, java_keystore, pem, provider, read_chain,
        read_chain_and_skipped, tidy,
    };
}
