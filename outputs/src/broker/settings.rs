//! What is set of a broker beside its URL.

use std::{fmt, io, sync::Arc, time::Duration};

use ringhook::Error;

use crate::routes::Fields;

/// What every record has.
const FIELDS: [&str; 6] = ["bot", "chat", "kind", "received", "update", "update_id"];

/// A password as it is when a connection is made.
type Password = Arc<dyn Fn() -> Result<Option<String>, Error> + Send + Sync>;

/// The settings of a broker.
///
/// ```
/// use std::time::Duration;
/// use ringhook_outputs::broker::BrokerSettings;
///
/// let settings = BrokerSettings::default()
///     .create(true)
///     .password(|| Ok(Some("the-password".to_owned())))
///     .timeout(Duration::from_secs(5));
/// ```
#[derive(Clone)]
pub struct BrokerSettings {
    pub(super) authorities: Option<Vec<u8>>,
    pub(super) create: bool,
    pub(super) fields: Fields,
    pub(super) into: Option<String>,
    password: Option<Password>,
    pub(super) shards: u32,
    pub(super) timeout: Duration,
}

impl Default for BrokerSettings {
    fn default() -> Self {
        Self {
            authorities: None,
            create: false,
            fields: Fields::default(),
            into: None,
            password: None,
            shards: 1,
            timeout: Self::TIMEOUT,
        }
    }
}

impl BrokerSettings {
    /// How long a connection or a batch may take, where nothing else is set.
    pub const TIMEOUT: Duration = Duration::from_secs(10);
    /// The most shards.
    pub const SHARDS_MAX: u32 = 1024;

    /// Trusts the authorities whose certificates are in `pem`, instead of those that browsers
    /// trust.
    #[must_use]
    pub fn authorities(self, pem: Vec<u8>) -> Self {
        Self { authorities: Some(pem), ..self }
    }

    /// Makes the streams or the table where they are missing. By default updates wait for them.
    #[must_use]
    pub fn create(self, create: bool) -> Self {
        Self { create, ..self }
    }

    /// Adds these values of each update to its record.
    #[must_use]
    pub fn fields(self, fields: Fields) -> Self {
        Self { fields, ..self }
    }

    /// What the names of streams begin with, or the name of the table.
    #[must_use]
    pub fn into(self, name: String) -> Self {
        Self { into: Some(name), ..self }
    }

    /// Where the password comes from. It is asked for at each connection.
    #[must_use]
    pub fn password(
        self,
        password: impl Fn() -> Result<Option<String>, Error> + Send + Sync + 'static,
    ) -> Self {
        Self { password: Some(Arc::new(password)), ..self }
    }

    /// Over how many streams the chats of a bot are spread; 1 to [`SHARDS_MAX`](Self::SHARDS_MAX).
    #[must_use]
    pub fn shards(self, shards: u32) -> Self {
        Self { shards, ..self }
    }

    /// How long a connection may take to be made, and a batch to be acknowledged.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// # Errors
    /// A setting is out of its bounds.
    pub(super) fn validate(&self) -> Result<(), Error> {
        if !(1..=Self::SHARDS_MAX).contains(&self.shards) {
            let expected = format!("1 to {}", Self::SHARDS_MAX);
            return Err(Error::config("output.shards", self.shards, &expected));
        }
        if self.timeout.is_zero() {
            return Err(Error::config("output.timeout", "0s", "more than nothing"));
        }
        if let Some(name) = self.into.as_deref().filter(|name| !is_name(name)) {
            let expected = "letters, digits, `_`, `-`, `.` and `:`";
            return Err(Error::config("output.into", format!("{name:?}"), expected));
        }
        if let Some(name) = self.fields.names().find(|name| FIELDS.contains(name)) {
            let expected = "another name: each record has a field of this one";
            return Err(Error::config("output.fields", format!("{name:?}"), expected));
        }
        Ok(())
    }

    /// The password as it is now.
    pub(super) fn read_password(&self) -> io::Result<Option<String>> {
        let read = self.password.as_ref().map(|read| read());
        let password = read.transpose().map_err(|error| {
            // Its source says why, and it has no secret.
            let why = std::error::Error::source(&error).map(|why| format!(": {why}"));
            let text = format!("{error}{}", why.unwrap_or_default());
            io::Error::new(io::ErrorKind::PermissionDenied, text)
        })?;
        Ok(password.flatten())
    }
}

fn is_name(name: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.:".contains(&byte);
    (1..=100).contains(&name.len()) && name.bytes().all(is_letter)
}

impl fmt::Debug for BrokerSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BrokerSettings")
            .field("create", &self.create)
            .field("into", &self.into)
            .field("shards", &self.shards)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
