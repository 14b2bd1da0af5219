//! Changes for the acceptor from other threads.

use std::{
    os::fd::OwnedFd,
    sync::{Arc, Mutex, PoisonError},
};

use super::{SocketFile, Terms, terms};
use crate::config::Config;

/// Changes that wait until the acceptor looks. A reload wakes it by a byte through its socket pair.
#[derive(Debug, Default)]
pub(crate) struct AcceptorConfig {
    order: Mutex<Option<AcceptorSettings>>,
    renewed: Mutex<Vec<(usize, OwnedFd, SocketFile)>>,
}

#[derive(Debug)]
pub(crate) struct AcceptorSettings {
    pub(crate) connections: usize,
    /// In the order of the configuration's listeners.
    pub(crate) terms: Vec<Arc<Terms>>,
}

impl AcceptorConfig {
    /// Accepts by `config` from now on.
    pub(crate) fn give(&self, config: &Config) {
        let order =
            AcceptorSettings { connections: config.limits.connections, terms: terms(config) };
        *self.order.lock().unwrap_or_else(PoisonError::into_inner) = Some(order);
    }

    /// Accepts at `socket` from now on in place of the listening socket `index`.
    pub(crate) fn renew(&self, index: usize, socket: OwnedFd, file: SocketFile) {
        let mut renewed = self.renewed.lock().unwrap_or_else(PoisonError::into_inner);
        renewed.push((index, socket, file));
    }

    pub(crate) fn take(&self) -> Option<AcceptorSettings> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// What [`renew`](Self::renew) was called with.
    pub(crate) fn renewed(&self) -> Vec<(usize, OwnedFd, SocketFile)> {
        std::mem::take(&mut self.renewed.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
