//! Routes that are replaced while updates are routed.

use std::fmt;

use arc_swap::ArcSwap;
use ringhook::{OutputRouter, OutputSet, update::Update};

use super::Routes;

/// The routes that are in force. What has gone to an output stays there when they are replaced.
pub struct LiveRoutes(ArcSwap<Routes>);

impl LiveRoutes {
    /// With `routes` in force.
    #[must_use]
    pub fn new(routes: Routes) -> Self {
        Self(ArcSwap::from_pointee(routes))
    }

    /// Puts `routes` in force; those that were.
    pub fn replace(&self, routes: Routes) -> std::sync::Arc<Routes> {
        self.0.swap(std::sync::Arc::new(routes))
    }

    /// Puts routes back in force that [`replace`](Self::replace) has returned.
    pub fn restore(&self, routes: std::sync::Arc<Routes>) {
        self.0.store(routes);
    }
}

impl OutputRouter for LiveRoutes {
    fn outputs(&self, update: &Update) -> OutputSet {
        self.0.load().route(update).outputs
    }

    fn is_trivial(&self) -> bool {
        self.0.load().is_trivial()
    }
}

impl fmt::Debug for LiveRoutes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LiveRoutes").field(&self.0.load().len()).finish()
    }
}
