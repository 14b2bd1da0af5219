//! PostgreSQL: updates in a table, each once.
//!
//! A batch is one INSERT, which passes over what the table has: bot and update_id are unique.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod` | the table, what is inserted, what errors mean |
//! | `tls` | private connections |

mod tls;

use std::{collections::BTreeMap, error::Error as _, io, sync::Arc, time::SystemTime};

use ringhook::{Error, Refused, Sink};
use tokio::{runtime::Runtime, time::timeout};
use tokio_postgres::{
    Client, Config, Statement,
    config::{Host, SslMode},
};

use self::tls::Tls;
use super::{Broker, BrokerSettings, BrokerSink, record::Record};

/// What [`PostgresAddress`] is parsed from.
const EXPECTED: &str = "postgres://[USER@]HOST[:PORT]/DB[?sslmode=MODE] without a password";
const TABLE: &str = "ringhook_updates";

/// Where a database is.
#[derive(Clone, Debug)]
pub(super) struct PostgresAddress(Box<Config>);

struct Postgres {
    config: Config,
    /// As errors name it.
    host: String,
    settings: BrokerSettings,
    /// Quoted.
    table: String,
    tls: Tls,
}

struct Link {
    client: Client,
    insert: Statement,
    /// What the connection is driven by while something is asked of it.
    runtime: Runtime,
}

impl PostgresAddress {
    /// # Errors
    /// What was expected instead.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        let mut config: Config = text.parse().map_err(|_| EXPECTED)?;
        if config.get_password().is_some() || config.get_hosts().is_empty() {
            return Err(EXPECTED);
        }
        // A mode that depends on the server would let a stranger in the middle switch TLS off.
        let is_near = config.get_hosts().iter().all(|host| match host {
            Host::Tcp(name) => matches!(&**name, "localhost" | "127.0.0.1" | "::1"),
            Host::Unix(_) => true,
        });
        if config.get_ssl_mode() == SslMode::Prefer {
            config.ssl_mode(if is_near { SslMode::Disable } else { SslMode::Require });
        }
        Ok(Self(Box::new(config)))
    }
}

/// The destination at `address`.
///
/// # Errors
/// A certificate in `settings` is none, or the table's name.
pub(super) fn open(
    address: &PostgresAddress,
    settings: BrokerSettings,
) -> Result<Box<dyn Sink>, Error> {
    let table = settings.into.as_deref().unwrap_or(TABLE);
    let parts: Vec<_> = table.split('.').collect();
    if parts.len() > 2 || parts.contains(&"") {
        let expected = "the name of a table, such as \"updates\" or \"bots.updates\"";
        return Err(Error::config("output.into", format!("{table:?}"), expected));
    }
    let table = parts.iter().map(|part| format!("\"{part}\"")).collect::<Vec<_>>().join(".");
    let host = address.0.get_hosts().first().map_or_else(String::new, |host| match host {
        Host::Tcp(name) => name.clone(),
        Host::Unix(path) => path.display().to_string(),
    });
    let tls = Tls::new(settings.authorities.as_deref())?;
    let config = (*address.0).clone();
    Ok(Box::new(BrokerSink(Arc::new(Postgres { config, host, settings, table, tls }))))
}

impl Postgres {
    /// Makes sure that the table is there, and prepares the insertion.
    async fn begin(&self, client: &Client) -> io::Result<Statement> {
        let failed = |error| self.failed(&error);
        let table = &self.table;
        let there = "SELECT to_regclass($1) IS NOT NULL";
        let found = client.query_one(there, &[table]).await.map_err(failed)?;
        if !found.try_get::<_, bool>(0).map_err(failed)? {
            if !self.settings.create {
                let text = format!("the table {table} is missing, and create is not set");
                return Err(io::Error::new(io::ErrorKind::NotFound, text));
            }
            client.batch_execute(&create(table)).await.map_err(failed)?;
        }
        client.prepare(&insert(table)).await.map_err(failed)
    }

    /// As an error of this database. What it says may quote a value, so of those that are about
    /// values the code is all that is told.
    fn failed(&self, error: &tokio_postgres::Error) -> io::Error {
        let text = match error.as_db_error() {
            Some(said) if !is_of_values(said.code().code()) => said.message().to_owned(),
            Some(said) => format!("SQLSTATE {}", said.code().code()),
            None => {
                let why = error.source().map(|why| format!(": {why}"));
                format!("{error}{}", why.unwrap_or_default())
            }
        };
        io::Error::new(kind_of(error), format!("postgres {}: {text}", self.host))
    }

    /// Runs `work` on the runtime of a connection, no longer than a batch may take.
    fn run<T>(
        &self,
        runtime: &Runtime,
        work: impl Future<Output = io::Result<T>>,
    ) -> io::Result<T> {
        let limit = self.settings.timeout;
        let outcome = runtime.block_on(async { timeout(limit, work).await });
        outcome.unwrap_or_else(|_| {
            let text = format!("postgres {}: no answer within {limit:?}", self.host);
            Err(io::Error::new(io::ErrorKind::TimedOut, text))
        })
    }

    /// Inserts `records` as one statement.
    async fn insert(&self, link: &Link, records: &[&Record]) -> Result<(), tokio_postgres::Error> {
        let bots: Vec<_> = records.iter().map(|it| &*it.bot).collect();
        let ids: Vec<_> = records.iter().map(|it| it.update_id).collect();
        let kinds: Vec<_> = records.iter().map(|it| it.kind).collect();
        let chats: Vec<_> = records.iter().map(|it| &*it.chat).collect();
        let received: Vec<SystemTime> = records.iter().map(|it| it.received).collect();
        let updates: Vec<_> = records.iter().map(|it| String::from_utf8_lossy(&it.body)).collect();
        let fields: Vec<_> = records.iter().map(|it| fields(it)).collect();
        let values: [&(dyn tokio_postgres::types::ToSql + Sync); 7] =
            [&bots, &ids, &kinds, &chats, &received, &updates, &fields];
        link.client.execute(&link.insert, &values).await.map(drop)
    }
}

impl Broker for Postgres {
    type Link = Link;

    fn settings(&self) -> &BrokerSettings {
        &self.settings
    }

    fn connect(&self) -> io::Result<Link> {
        let mut config = self.config.clone();
        if let Some(password) = self.settings.read_password()? {
            config.password(password);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (client, insert) = self.run(&runtime, async {
            let connected = config.connect(self.tls.clone()).await;
            let (client, connection) = connected.map_err(|error| self.failed(&error))?;
            // It ends with the client, and what it says the client says as well.
            drop(tokio::spawn(connection));
            let insert = self.begin(&client).await?;
            Ok((client, insert))
        })?;
        Ok(Link { client, insert, runtime })
    }

    fn publish(
        &self,
        link: &mut Link,
        records: &[Record],
        refused: &mut Refused,
    ) -> io::Result<()> {
        self.run(&link.runtime, async {
            let all: Vec<_> = records.iter().collect();
            match self.insert(link, &all).await {
                Ok(()) => return Ok(()),
                Err(error) if is_refusal(&error) => {}
                Err(error) => return Err(self.failed(&error)),
            }
            // One of them will never be taken; which one, only each by itself tells.
            for (index, record) in records.iter().enumerate() {
                match self.insert(link, &[record]).await {
                    Ok(()) => {}
                    Err(error) if is_refusal(&error) => {
                        let code = error.code().map_or("", |code| code.code());
                        refused.push(index, format!("PostgreSQL refuses it, SQLSTATE {code}"));
                    }
                    Err(error) => return Err(self.failed(&error)),
                }
            }
            Ok(())
        })
    }
}

fn create(table: &str) -> String {
    let name = table.rsplit('.').next().unwrap_or_default().trim_matches('"');
    format!(
        "CREATE TABLE IF NOT EXISTS {table} (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            bot text NOT NULL,
            update_id bigint NOT NULL,
            kind text NOT NULL,
            chat text NOT NULL,
            received timestamptz NOT NULL,
            update json NOT NULL,
            fields json,
            done timestamptz,
            UNIQUE (bot, update_id)
        );
        CREATE INDEX IF NOT EXISTS \"{name}_open\" ON {table} (id) WHERE done IS NULL;
        CREATE INDEX IF NOT EXISTS \"{name}_chat\" ON {table} (bot, chat, id) WHERE done IS NULL"
    )
}

fn insert(table: &str) -> String {
    // In the order of the batch, so that ids are in the order of a chat.
    format!(
        "INSERT INTO {table} (bot, update_id, kind, chat, received, update, fields)
        SELECT bot, update_id, kind, chat, received, update::json, fields::json
        FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::timestamptz[],
            $6::text[], $7::text[]) WITH ORDINALITY
            AS batch (bot, update_id, kind, chat, received, update, fields, place)
        ORDER BY place
        ON CONFLICT (bot, update_id) DO NOTHING"
    )
}

/// The fields of a record as an object; `None` where there are none.
fn fields(record: &Record) -> Option<String> {
    let value = |text| String::from_utf8_lossy(text);
    let fields: BTreeMap<_, _> =
        record.fields.iter().map(|(name, text)| (name, value(text))).collect();
    (!fields.is_empty()).then(|| serde_json::to_string(&fields).unwrap_or_default())
}

/// True where the values are what an error is about: data, a constraint, or a limit of a row.
fn is_of_values(code: &str) -> bool {
    ["22", "23", "54"].iter().any(|class| code.starts_with(class))
}

fn is_refusal(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|code| is_of_values(code.code()))
}

/// What an error means to those who look at the output's state.
fn kind_of(error: &tokio_postgres::Error) -> io::ErrorKind {
    use io::ErrorKind as Kind;
    let Some(code) = error.code().map(|code| code.code()) else {
        let of_io = || Some(error.source()?.downcast_ref::<io::Error>()?.kind());
        return match of_io() {
            Some(kind) => kind,
            None if error.is_closed() => Kind::ConnectionReset,
            None => Kind::Other,
        };
    };
    match code {
        "42501" => Kind::PermissionDenied,
        "3D000" | "42P01" => Kind::NotFound,
        "25006" => Kind::ReadOnlyFilesystem,
        "53100" => Kind::StorageFull,
        // Too many connections, or it starts or stops.
        "53300" | "57P03" => Kind::ResourceBusy,
        // It was stopped.
        "57P01" | "57P02" => Kind::ConnectionReset,
        _ if code.starts_with("28") => Kind::PermissionDenied,
        _ => Kind::Other,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_url_has_a_host_and_no_password() {
        for (good, mode) in [
            ("postgres://a@db.example/bots", SslMode::Require),
            ("postgresql://a@db.example:5433/bots?sslmode=disable", SslMode::Disable),
            ("postgres://a@localhost/bots", SslMode::Disable),
            ("postgres://a@%2Frun%2Fpostgresql/bots", SslMode::Disable),
            ("postgres://a@[::1]/bots?sslmode=require", SslMode::Require),
        ] {
            assert_eq!(PostgresAddress::parse(good).unwrap().0.get_ssl_mode(), mode, "{good}");
        }
        for bad in ["postgres://", "postgres://a:secret@h/d", "postgres://h/d?password=secret"] {
            assert_eq!(PostgresAddress::parse(bad).err(), Some(EXPECTED), "{bad}");
        }
    }

    #[test]
    fn errors_about_values_are_those_of_three_classes() {
        for (code, is_so) in [("22P02", true), ("23514", true), ("54000", true), ("42P01", false)] {
            assert_eq!(is_of_values(code), is_so, "{code}");
        }
    }
}
