//! Brokers as outputs.

use std::fs;

use crate::config::OutputSection;
use ringhook::{Error, ErrorKind, Sink};
use ringhook_outputs::{
    broker::{BrokerSettings, BrokerUrl},
    routes::{FieldNames, Fields},
};

/// Checks what `section` says of the broker at `url`, as far as that goes without reading files.
///
/// # Errors
/// A setting is wrong.
pub(super) fn check(section: &OutputSection, url: &BrokerUrl) -> Result<(), Error> {
    url.open(settings(section)?).map(drop)
}

/// The broker at `url`, as `section` sets it. Nothing is connected yet.
///
/// # Errors
/// A setting is wrong, or a file cannot be read.
pub(super) fn open(section: &OutputSection, url: &BrokerUrl) -> Result<Box<dyn Sink>, Error> {
    let mut settings = settings(section)?;
    if let Some(path) = &section.ca {
        let pem = fs::read(path).map_err(|source| {
            let message = format!("output.ca = {}", path.display());
            Error::with_source(ErrorKind::Config, message, source)
        })?;
        settings = settings.authorities(pem);
    }
    // What is missing now is a mistake; what is missing later keeps the output down.
    section.password()?;
    let section = section.clone();
    url.open(settings.password(move || section.password()))
}

fn settings(section: &OutputSection) -> Result<BrokerSettings, Error> {
    let fields = section.fields.iter().map(|(name, path)| (&**name, &**path));
    let fields = Fields::compile(&section.name, fields, FieldNames::Identifier)?;
    let settings = BrokerSettings::default()
        .create(section.create.unwrap_or_default())
        .fields(fields)
        .shards(section.shards.unwrap_or(1))
        .timeout(section.timeout.unwrap_or(BrokerSettings::TIMEOUT));
    Ok(match &section.into {
        Some(into) => settings.into(into.clone()),
        None => settings,
    })
}
