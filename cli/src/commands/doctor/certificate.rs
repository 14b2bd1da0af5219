//! Whether Telegram would accept the certificate that is served for a bot.

use std::{path::Path, time::SystemTime};

use rustls::pki_types::{CertificateDer, pem::PemObject as _};

use super::step::Finding;
use crate::{
    certificates::examine::{Examination, Level, Line, Question, public_roots},
    config::ConfigFile,
};
use ringhook::{Error, internals::tls::read_chain};

/// What is to be said of the chain in `path`, served for `host`; `uploaded` is what Telegram is
/// given of it, where that is something.
pub(super) fn look(
    file: &ConfigFile,
    path: &Path,
    host: Option<&str>,
    uploaded: Option<&[u8]>,
) -> Finding {
    let shown = path.display();
    // The keys as well, as the server reads them.
    if let Err(error) = file.to_tls() {
        return unread(&error);
    }
    let chain = match read_chain(path) {
        Ok(chain) => chain,
        Err(error) => return unread(&error),
    };
    let uploaded = uploaded
        .map(|pem| CertificateDer::pem_slice_iter(pem).filter_map(Result::ok).collect::<Vec<_>>());
    let (now, roots) = (SystemTime::now(), public_roots());
    let question = Question {
        chain: &chain,
        host,
        is_sent: false,
        now,
        roots: &roots,
        uploaded: uploaded.as_deref(),
    };
    let Examination { accepted_as_uploaded, accepted_as_signed, findings, .. } = question.answer();
    let (is_accepted, taken, other_way, way) = match uploaded {
        Some(_) => (accepted_as_uploaded, "uploaded", "CA-signed", "as uploaded"),
        None => (accepted_as_signed, "CA-signed", "uploaded", "as signed by a public authority"),
    };
    // What is said of the way that is not taken does not matter.
    let mut findings = findings;
    findings.retain(|line| line.check != other_way);
    let dates = findings.iter().find(|line| line.check == "dates").map(|line| line.what.clone());
    // The sum of it all says nothing new where there is something wrong.
    if findings.iter().any(|line| line.level == Level::Fail && line.check != taken) {
        findings.retain(|line| line.check != taken);
    }
    let least = if is_accepted { Level::Warn } else { Level::Fail };
    let mut lines = findings.iter().filter(|line| line.level >= least);
    let advice = |line: &Line| match &line.fix {
        Some(fix) => format!("{}: {fix}", line.what),
        None => line.what.clone(),
    };
    let Some(first) = lines.next() else {
        return match is_accepted {
            true => {
                let dates = dates.map_or_else(String::new, |dates| format!("; {dates}"));
                Finding::ok(format!("{shown}: Telegram accepts it {way}{dates}"))
            }
            false => Finding::fail(format!("{shown}: Telegram would refuse it"), check(path, host)),
        };
    };
    let (what, fix) = (format!("{shown}: {}", first.what), first.fix.clone().unwrap_or_default());
    let finding = if is_accepted { Finding::warn(what, fix) } else { Finding::fail(what, fix) };
    let finding = lines.map(advice).fold(finding, Finding::and);
    if is_accepted { finding } else { finding.and(check(path, host)) }
}

/// The command that says more.
fn check(path: &Path, host: Option<&str>) -> String {
    let name = host.map_or_else(String::new, |host| format!(" --name {host}"));
    format!("all of it: ringhook cert check {}{name}", path.display())
}

fn unread(error: &Error) -> Finding {
    let kind = error.io().map(std::io::Error::kind);
    match kind {
        Some(std::io::ErrorKind::PermissionDenied) => Finding::warn(
            error.to_string(),
            "it was not looked at: run doctor as the user of the server, or as root",
        ),
        Some(std::io::ErrorKind::NotFound) => Finding::fail(
            error.to_string(),
            "make one: ringhook cert new --name HOST (or --ip ADDRESS), or start `ringhook serve` \
             once where the config names none",
        ),
        _ => Finding::fail(error.to_string(), "see: ringhook cert check FILE"),
    }
}
