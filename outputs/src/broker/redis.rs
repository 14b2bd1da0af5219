//! Redis and Valkey: streams, each update once.
//!
//! A stream has a list of the ids that were added last, in the same slot of a cluster. A script
//! adds what is not in the list. So a batch that comes again, because its acknowledgement was lost
//! or the process was killed, is not doubled, however long the server was away.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Once},
};

use redis::{
    Client, Connection, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo as _,
    RedisError, ServerErrorKind, TlsCertificates,
};
use ringhook::{Error, Refused, Sink, internals::tls::provider};

use super::{Broker, BrokerSettings, BrokerSink, record::Record};

/// What [`RedisAddress`] is parsed from.
const EXPECTED: &str = "redis://[USER@]HOST[:PORT][/DB], rediss:// likewise, or \
                        redis+unix:/SOCKET[?db=DB]";
/// What the names of streams begin with.
const PREFIX: &str = "tg";
/// How many ids a stream's list has. Only those can come again that were not settled: a batch of
/// each worker, and what the journal has not noted before a power cut.
const IDS: u32 = 10_000;
/// Adds records to the stream `KEYS[1]` whose ids are not in the list `KEYS[2]`; each record is its
/// id, the number of its fields' names and values, and these. The list is looked at before anything
/// is added, so that a key of another kind is an error before it.
const SCRIPT: &str = "\
local make, keep, at = ARGV[1] == 'make', tonumber(ARGV[2]), 3
local now = redis.call('TIME')
local score = now[1] * 1000000 + now[2]
while ARGV[at] do
  local id, last = ARGV[at], at + 1 + tonumber(ARGV[at + 1])
  if not redis.call('ZSCORE', KEYS[2], id) then
    if make then
      redis.call('XADD', KEYS[1], '*', unpack(ARGV, at + 2, last))
    elseif not redis.call('XADD', KEYS[1], 'NOMKSTREAM', '*', unpack(ARGV, at + 2, last)) then
      return redis.error_reply('NOSTREAM ' .. KEYS[1] .. ' is missing, and create is not set')
    end
    redis.call('ZADD', KEYS[2], score, id)
  end
  at = last + 1
end
redis.call('ZREMRANGEBYRANK', KEYS[2], 0, -keep - 1)
return redis.status_reply('OK')";

/// Where a server is.
#[derive(Clone, Debug)]
pub(super) struct RedisAddress(Box<ConnectionInfo>);

struct Redis {
    address: ConnectionInfo,
    /// As errors name it.
    host: String,
    settings: BrokerSettings,
}

struct Link {
    connection: Connection,
    /// The longest value that the server takes, where it says that.
    value_max: Option<usize>,
}

impl RedisAddress {
    /// # Errors
    /// What was expected instead.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        let is_unix = text.starts_with("redis+unix:");
        let query = text.split_once('?').map_or("", |(_, query)| query);
        let has_good_query = query.is_empty() || (is_unix && query.starts_with("db="));
        let info = text.into_connection_info().map_err(|_| EXPECTED)?;
        let is_good = has_good_query && !text.contains(['#', '&']);
        let has_password = info.redis_settings().password().is_some();
        if is_good && !has_password { Ok(Self(Box::new(info))) } else { Err(EXPECTED) }
    }
}

/// The destination at `address`.
///
/// # Errors
/// A certificate in `settings` is none.
pub(super) fn open(
    address: &RedisAddress,
    settings: BrokerSettings,
) -> Result<Box<dyn Sink>, Error> {
    let address = (*address.0).clone();
    if matches!(address.addr(), ConnectionAddr::TcpTls { .. }) {
        // The client asks the process for its cryptography.
        static ONCE: Once = Once::new();
        ONCE.call_once(|| drop(provider().install_default()));
    }
    let host = match address.addr() {
        ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
            format!("{host}:{port}")
        }
        ConnectionAddr::Unix(path) => path.display().to_string(),
        _ => String::new(),
    };
    let redis = Redis { address, host, settings };
    redis.client(None).map_err(|error| {
        let expected = format!("certificates in PEM ({error})");
        Error::config("output.ca", "(a file)", &expected)
    })?;
    Ok(Box::new(BrokerSink(Arc::new(redis))))
}

impl Redis {
    fn client(&self, password: Option<String>) -> Result<Client, RedisError> {
        let mut info = self.address.clone();
        if let Some(password) = password {
            let login = info.redis_settings().clone().set_password(password);
            info = info.set_redis_settings(login);
        }
        match self.settings.authorities.clone() {
            Some(pem) if matches!(info.addr(), ConnectionAddr::TcpTls { .. }) => {
                let root_cert = Some(pem);
                Client::build_with_tls(info, TlsCertificates { client_tls: None, root_cert })
            }
            _ => Client::open(info),
        }
    }

    /// As an error of the server at this host.
    fn failed(&self, error: &RedisError) -> io::Error {
        let text = match error.clone().into_server_errors() {
            _ if error.is_timeout() => format!("no answer within {:?}", self.settings.timeout),
            // Of a pipeline the first is enough.
            Some(errors) => errors.first().map(|(_, error)| error.to_string()).unwrap_or_default(),
            None => error.to_string(),
        };
        io::Error::new(kind_of(error), format!("redis {}: {text}", self.host))
    }

    /// The stream of `record` and its list of ids. What is in braces decides on the slot.
    fn keys(&self, record: &Record) -> (String, String) {
        let prefix = self.settings.into.as_deref().unwrap_or(PREFIX);
        let shard = record.hash % u64::from(self.settings.shards);
        let stream = format!("{prefix}:{{{}:{shard}}}", record.bot);
        let ids = format!("{stream}:ids");
        (stream, ids)
    }
}

impl Broker for Redis {
    type Link = Link;

    fn settings(&self) -> &BrokerSettings {
        &self.settings
    }

    fn connect(&self) -> io::Result<Link> {
        let timeout = self.settings.timeout;
        let password = self.settings.read_password()?;
        let client = self.client(password).map_err(|error| self.failed(&error))?;
        let connect = || {
            let mut connection = client.get_connection_with_timeout(timeout)?;
            connection.set_read_timeout(Some(timeout))?;
            connection.set_write_timeout(Some(timeout))?;
            let asked = redis::cmd("CONFIG").arg("GET").arg("proto-max-bulk-len").clone();
            let value_max = match asked.query::<BTreeMap<String, usize>>(&mut connection) {
                Ok(found) => found.into_values().next(),
                // A server may not say it, or not to this user.
                Err(error) if !error.is_unrecoverable_error() => None,
                Err(error) => return Err(error),
            };
            Ok(Link { connection, value_max })
        };
        connect().map_err(|error| self.failed(&error))
    }

    fn publish(
        &self,
        link: &mut Link,
        records: &[Record],
        refused: &mut Refused,
    ) -> io::Result<()> {
        let mut streams = BTreeMap::<_, Vec<&Record>>::new();
        for (index, record) in records.iter().enumerate() {
            match link.value_max {
                Some(max) if record.body.len() > max => {
                    refused.push(index, "longer than the server's proto-max-bulk-len");
                }
                _ => streams.entry(self.keys(record)).or_default().push(record),
            }
        }
        if streams.is_empty() {
            return Ok(());
        }
        let mut pipeline = redis::Pipeline::with_capacity(streams.len());
        for ((stream, ids), records) in &streams {
            let command = pipeline.cmd("EVAL").arg(SCRIPT).arg(2).arg(stream).arg(ids);
            command.arg(if self.settings.create { "make" } else { "" }).arg(IDS);
            for record in records {
                let received = humantime::format_rfc3339_millis(record.received).to_string();
                command
                    .arg(format!("{}-{}", record.bot, record.update_id))
                    .arg(12 + 2 * record.fields.len())
                    .arg(("update", &*record.body))
                    .arg(("bot", &record.bot))
                    .arg(("update_id", record.update_id))
                    .arg(("kind", record.kind))
                    .arg(("chat", &record.chat))
                    .arg(("received", received));
                for (name, value) in &record.fields {
                    command.arg(name).arg(&**value);
                }
            }
        }
        pipeline.query::<()>(&mut link.connection).map_err(|error| self.failed(&error))
    }
}

/// What an error means to those who look at the output's state.
fn kind_of(error: &RedisError) -> io::ErrorKind {
    use io::ErrorKind as Kind;
    match (error.kind(), error.code()) {
        (ErrorKind::Io, _) if error.is_timeout() => Kind::TimedOut,
        (ErrorKind::Io, _) if error.is_connection_refusal() => Kind::ConnectionRefused,
        (ErrorKind::Io, _) if error.is_connection_dropped() => Kind::ConnectionReset,
        (ErrorKind::AuthenticationFailed | ErrorKind::Server(ServerErrorKind::NoPerm), _)
        | (_, Some("NOAUTH" | "WRONGPASS")) => Kind::PermissionDenied,
        // Its memory, or the disk of its snapshots.
        (_, Some("OOM" | "MISCONF")) => Kind::StorageFull,
        (_, Some("NOSTREAM")) => Kind::NotFound,
        (ErrorKind::Server(ServerErrorKind::ReadOnly), _) => Kind::ReadOnlyFilesystem,
        (ErrorKind::Server(ServerErrorKind::BusyLoading), _) => Kind::ResourceBusy,
        _ => Kind::Other,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_url_has_no_password_and_nothing_that_is_not_understood() {
        for good in [
            "redis://127.0.0.1",
            "redis://ringhook@redis.example:6380/3",
            "rediss://[::1]:6380",
            "redis+unix:/run/redis.sock",
            "redis+unix:/run/redis.sock?db=3",
        ] {
            assert!(RedisAddress::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "redis://",
            "redis://h/x",
            "redis://:secret@h",
            "rediss://h/#insecure",
            "redis://h?protocol=3",
            "redis+unix:/run/redis.sock?pass=secret",
            "redis+unix:/run/redis.sock?db=1&pass=secret",
            "redis+unix:/run/redis.sock?db=x",
        ] {
            assert_eq!(RedisAddress::parse(bad).err(), Some(EXPECTED), "{bad}");
        }
    }

    #[test]
    fn an_error_says_what_to_look_at() {
        let of = |code: &'static str| {
            let value = redis::parse_redis_value(format!("-{code} why\r\n").as_bytes()).unwrap();
            kind_of(&value.extract_error().unwrap_err())
        };
        assert_eq!(of("NOAUTH"), io::ErrorKind::PermissionDenied);
        assert_eq!(of("NOPERM"), io::ErrorKind::PermissionDenied);
        assert_eq!(of("OOM"), io::ErrorKind::StorageFull);
        assert_eq!(of("READONLY"), io::ErrorKind::ReadOnlyFilesystem);
        assert_eq!(of("ERR"), io::ErrorKind::Other);
        let refused = RedisError::from(io::Error::from(io::ErrorKind::ConnectionRefused));
        assert_eq!(kind_of(&refused), io::ErrorKind::ConnectionRefused);
        let closed = RedisError::from(io::Error::from(io::ErrorKind::UnexpectedEof));
        assert_eq!(kind_of(&closed), io::ErrorKind::ConnectionReset);
    }
}
