//! PKCS#12 (`.p12`, `.pfx`) to a chain and a key in PEM. Bytes in, text out.

use p12_keystore::{Pkcs12Archive, error::Error as P12Error};
use pkcs8::der::pem::{LineEnding, encode_string};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

use ringhook::internals::tls::{
    chain::{self, Order},
    facts::Facts,
    provider,
    tidy::is_keystore,
};

/// What was in the file.
pub(crate) struct Unpacked {
    /// Leaf first, without the root.
    pub(crate) chain: String,
    /// How many certificates that is.
    pub(crate) length: usize,
    pub(crate) key: Zeroizing<String>,
    /// What its owner should know.
    pub(crate) notes: Vec<String>,
}

/// Why there is nothing.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Failed {
    /// It is a keystore of Java's own kind.
    Java,
    /// It is PEM already.
    Pem,
    /// The password does not open it.
    Password,
    /// There are several keys, called this.
    SeveralKeys(Vec<String>),
    /// Anything else, in one line.
    Other(String),
}

impl From<P12Error> for Failed {
    fn from(error: P12Error) -> Self {
        match error {
            // Where there is no MAC, it is the padding or what is behind it that is wrong.
            P12Error::MacError(_) | P12Error::UnpadError | P12Error::Pkcs5Error(_) => {
                Self::Password
            }
            P12Error::UnsupportedEncryptionScheme | P12Error::UnsupportedMacAlgorithm => {
                let convert = "its encryption is not supported: convert it with `openssl pkcs12 -in \
                               FILE -nodes -out PEM`, which writes key and chain into one file";
                Self::Other(convert.to_owned())
            }
            P12Error::DerError(_) | P12Error::InvalidVersion | P12Error::UnsupportedContentType => {
                Self::Other("is not PKCS#12, or is damaged".to_owned())
            }
            other => Self::Other(format!("cannot be read as PKCS#12: {other}")),
        }
    }
}

/// Whether `data` looks like a file of another kind; checked before the operator is asked for a
/// password.
pub(crate) fn recognise(data: &[u8]) -> Result<(), Failed> {
    if is_keystore(data) {
        return Err(Failed::Java);
    }
    if memchr::memmem::find(data, b"-----BEGIN ").is_some() {
        return Err(Failed::Pem);
    }
    if data.first() != Some(&0x30) {
        return Err(Failed::Other("is not PKCS#12".to_owned()));
    }
    Ok(())
}

/// Opens the PKCS#12 file `data` and takes the key called `alias` out of it, or the only one.
pub(crate) fn unpack(data: &[u8], password: &str, alias: Option<&str>) -> Result<Unpacked, Failed> {
    recognise(data)?;
    let archive = Pkcs12Archive::from_pkcs12(data, password)?;
    let name = |name: &Option<String>| name.clone().unwrap_or_else(|| "(no name)".to_owned());
    let mut keys = archive.keys.iter();
    let key = match alias {
        Some(alias) => keys.find(|key| key.friendly_name.as_deref() == Some(alias)),
        None if archive.keys.len() > 1 => {
            let names = keys.map(|key| name(&key.friendly_name)).collect();
            return Err(Failed::SeveralKeys(names));
        }
        None => keys.next(),
    };
    let Some(key) = key else {
        let missing = match alias {
            Some(alias) => format!("holds no private key called {alias:?}"),
            None => "holds no private key: export it together with its key".to_owned(),
        };
        return Err(Failed::Other(missing));
    };
    let public_key = public_key(key.key.as_der())?;
    let mut notes = Vec::new();
    let (mut ders, mut facts) = (Vec::new(), Vec::new());
    for certificate in &archive.certs {
        let der = CertificateDer::from(certificate.cert.as_der().to_vec());
        match Facts::from_der(&der) {
            // The same one twice is written once.
            Some(_) if ders.contains(&der) => {}
            Some(of) => {
                facts.push(of);
                ders.push(der);
            }
            None => notes.push("a certificate in it cannot be read and was left out".to_owned()),
        }
    }
    if !facts.iter().any(|facts| facts.public_key == public_key) {
        return Err(Failed::Other("holds no certificate of its private key".to_owned()));
    }
    let (ders, facts, Order { path, .. }) = chain::put_in_order(ders, facts, Some(&public_key));
    if ders.len() > path {
        let count = ders.len() - path;
        notes.push(format!("{count} certificate(s) that are not of its chain were left out"));
    }
    let root = facts.get(1..path).into_iter().flatten().position(Facts::is_self_signed);
    // A client that trusts it has it already.
    let length = root.map_or(path, |place| place + 1);
    if length < path {
        notes.push("the root was left out, no client needs it".to_owned());
    }
    let pem = |label, der: &[u8]| {
        encode_string(label, LineEnding::LF, der)
            .map_err(|error| Failed::Other(format!("cannot be written as PEM: {error}")))
    };
    let chain = ders.iter().take(length).map(|der| pem("CERTIFICATE", der));
    let chain = chain.collect::<Result<String, _>>()?;
    let key = Zeroizing::new(pem("PRIVATE KEY", key.key.as_der())?);
    Ok(Unpacked { chain, length, key, notes })
}

/// The DER of the public part of the private key in `der`, with its algorithm.
fn public_key(der: &[u8]) -> Result<Vec<u8>, Failed> {
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(der.to_vec()));
    let unusable = || Failed::Other("holds a private key that ringhook cannot use".to_owned());
    let signer = provider().key_provider.load_private_key(key).map_err(|_| unusable())?;
    signer.public_key().map(|key| key.to_vec()).ok_or_else(unusable)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// A file with one key and its certificate.
    fn p12() -> Vec<u8> {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["bot.example.com".to_owned()]).unwrap();
        let der = params.self_signed(&key).unwrap().der().to_vec();
        let certificate = p12_keystore::Certificate::from_der(&der).unwrap();
        let key = p12_keystore::PrivateKey::from_der(key.serialized_der()).unwrap();
        let chain = p12_keystore::PrivateKeyChain::new("1", key, [certificate]);
        let mut store = p12_keystore::KeyStore::new();
        store.add_entry("bot", p12_keystore::KeyStoreEntry::PrivateKeyChain(chain));
        let writer = store.writer("sesame").encryption_iterations(10).mac_iterations(10);
        writer.write().unwrap()
    }

    #[test]
    fn no_change_of_a_byte_makes_it_panic_or_gives_another_key() {
        let data = p12();
        let whole = unpack(&data, "sesame", Some("bot")).unwrap();
        assert_eq!((whole.length, whole.notes.len()), (1, 0));
        for place in 0..data.len() {
            for flip in [0x01, 0x80] {
                let mut changed = data.clone();
                *changed.get_mut(place).unwrap() ^= flip;
                if let Ok(unpacked) = unpack(&changed, "sesame", None) {
                    assert_eq!(unpacked.key, whole.key);
                }
            }
        }
    }

    #[test]
    fn other_files_are_recognised() {
        let failed = |data: &[u8]| unpack(data, "", None).err().unwrap();
        assert_eq!(failed(b"\xfe\xed\xfe\xed\0\0\0\x02"), Failed::Java);
        assert_eq!(failed(b"-----BEGIN CERTIFICATE-----\n"), Failed::Pem);
        assert_eq!(failed(b""), Failed::Other("is not PKCS#12".to_owned()));
        let damaged = Failed::Other("is not PKCS#12, or is damaged".to_owned());
        assert_eq!(failed(b"\x30\x03\x02\x01\x03"), damaged);
    }
}
