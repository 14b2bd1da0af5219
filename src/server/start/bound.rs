//! The first step of a start: the settings are checked, and the sockets are there.

use std::sync::{Arc, OnceLock};

use crate::{
    config::Config,
    control::Control,
    delivery::stream::OnDrop,
    dispatch::OutputRouter,
    error::Error,
    io::{
        cpu_affinity::Placement,
        listener::{Listening, ListeningSocket},
    },
    observe::{incidents::Incidents, recent::RecentRequests},
    server::{
        admin::{AdminListener, AdminThread, Pages},
        builder::ServerBuilder,
        health::Health,
        journal::OnRecovery,
        output::Output,
        threads::spawn,
        view::ServerView,
        watch::Watched,
    },
    tls::TlsConfig,
};

/// A server whose sockets are bound. Nothing of the journal has been looked at.
pub(super) struct Bound {
    pub(super) admin: Option<AdminThread>,
    pub(super) config: Config,
    pub(super) control: Arc<Control>,
    pub(super) health: Arc<Health>,
    pub(super) incidents: Arc<Incidents>,
    pub(super) listeners: Vec<crate::config::Listener>,
    pub(super) notices: Vec<String>,
    pub(super) on_drop: OnDrop,
    pub(super) on_recovery: Option<OnRecovery>,
    pub(super) outputs: Vec<Output>,
    pub(super) placement: Placement,
    pub(super) recent: Arc<RecentRequests>,
    pub(super) router: Option<Arc<dyn OutputRouter>>,
    pub(super) sockets: Vec<ListeningSocket>,
    pub(super) tls: Option<TlsConfig>,
    /// What the program's pages see, once the server runs.
    pub(super) view: Arc<OnceLock<ServerView>>,
    pub(super) watch_certificates: bool,
    pub(super) watched: Vec<Watched>,
}

impl Bound {
    /// Checks the settings of `server` and binds its sockets.
    ///
    /// # Errors
    /// A setting that is wrong or missing, or a socket that cannot be bound.
    pub(super) fn new(server: ServerBuilder) -> Result<Self, Error> {
        let ServerBuilder {
            admin_pages,
            config,
            inherited,
            on_bound,
            on_drop,
            on_failure,
            on_recovery,
            outputs,
            router,
            socket_heir,
            tls,
            watch_certificates,
            watched,
        } = server;
        config.validate()?;
        let missing = |what: &str, how: &str| Error::config(what, "(none)", how);
        if tls.is_none() && config.all_listeners().iter().any(|listener| listener.tls) {
            return Err(missing("tls", "a certificate and its key"));
        }
        Output::validate(&outputs)?;
        let placement = match config.listens {
            true => Placement::of_this_machine(config.shards, config.workers, &config.pin)?,
            false => Placement::without_shards(config.workers, &config.pin)?,
        };
        let Listening { listeners, notices, sockets } =
            Listening::open(&config, inherited, socket_heir.as_ref())?;
        let control = Arc::new(Control::new(on_failure));
        let health = Arc::new(Health::new(Arc::clone(&control)));
        let incidents = Arc::new(Incidents::new(config.admin.incidents));
        let recent = Arc::<RecentRequests>::default();
        let view = Arc::default();
        // Before the journal is read, which may take its time: probes are answered meanwhile.
        let admin = match config.admin.listen {
            None => None,
            Some(address) => {
                let (health, incidents) = (Arc::clone(&health), Arc::clone(&incidents));
                let is_local = address.ip().to_canonical().is_loopback();
                let pages = Pages::new(health, incidents, Arc::clone(&recent), is_local);
                let program = admin_pages.map(|program| (program, Arc::clone(&view)));
                Some(AdminListener::bind(address, pages, program)?)
            }
        };
        // Everything is bound.
        if let Some(call) = on_bound {
            call()?;
        }
        let spawn = |name: &str, run| spawn(&control, name.to_owned(), None, run);
        let admin = admin.map(|listener| listener.start(spawn)).transpose()?;
        Ok(Self {
            admin,
            config,
            control,
            health,
            incidents,
            listeners,
            notices,
            on_drop,
            on_recovery,
            outputs,
            placement,
            recent,
            router,
            sockets,
            tls,
            view,
            watch_certificates,
            watched,
        })
    }
}
