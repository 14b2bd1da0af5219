//! Whether the public way to this server works, as Telegram would come.

use std::{net::SocketAddr, time::Duration};

use rustls::pki_types::{CertificateDer, pem::PemObject as _};

use crate::{
    sender::{Connection, Failure, Place, Target, TlsVersions, Trust},
    webhook::Plan,
};

/// How long connecting with TLS, and then the answer, may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// A body that is no update: whoever answers it with 400 has read it after having looked at path and
/// credentials, and nothing comes of it.
const NO_UPDATE: &[u8] = b"{}";
const BAD_REQUEST: u16 = 400;

/// Sends a request to the URL of `plan` as Telegram does, with TLS, the certificate that it would
/// trust, and the credentials; why the way does not work, if it does not.
///
/// What this cannot see: whether Telegram's own networks come through. A machine that does not reach
/// its own public address, as behind some routers, fails although Telegram would not.
pub(super) fn check(plan: &Plan) -> Result<(), String> {
    let trust = match &plan.certificate {
        None => Trust::Authorities,
        Some(pem) => {
            let list: Result<_, _> = CertificateDer::pem_slice_iter(pem).collect();
            Trust::Certificates(list.map_err(|_| "the certificate is no PEM".to_owned())?)
        }
    };
    let mut target = Target::of_url(&plan.url, trust).map_err(|error| error.to_string())?;
    if let (Some(ip), Place::Tcp(addresses)) = (plan.ip_address, &mut target.place)
        && let Some(port) = addresses.first().map(SocketAddr::port)
    {
        *addresses = vec![SocketAddr::new(ip, port)];
    }
    let of = |why: String| format!("{}: {why}", plan.shown_url());
    let failed = |failure: Failure| {
        let hint = match matches!(failure, Failure::Closed(_)) {
            true => "; is this machine's own address on server.allow?",
            false => "",
        };
        of(format!("{failure}{hint}"))
    };
    let mut connection = Connection::open(&target, TlsVersions::Both, PATIENCE).map_err(failed)?;
    let answer = connection.post(NO_UPDATE, plan.secret_token.as_ref()).map_err(failed)?;
    match answer.status {
        BAD_REQUEST => Ok(()),
        403 => Err(of("403: the credentials are others, or this machine's own address is not on \
                       server.allow or bot.allow"
            .to_owned())),
        _ => Err(of(format!("answered {}, so it is not this server", answer.line()))),
    }
}
