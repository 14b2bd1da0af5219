//! Certificates made for one test.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, SanType,
};

/// A self-signed certificate for `localhost` and 127.0.0.1, and its key, in PEM.
pub(crate) struct Pki {
    pub(crate) cert: String,
    pub(crate) key: String,
    dir: tempfile::TempDir,
}

impl Pki {
    pub(crate) fn ecdsa() -> Self {
        let key = KeyPair::generate().unwrap();
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let cert = CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let pki = Self { cert: cert.pem(), key: key.serialize_pem(), dir };
        std::fs::write(pki.cert_file(), &pki.cert).unwrap();
        std::fs::write(pki.key_file(), &pki.key).unwrap();
        pki
    }

    /// A directory of this certificate's own, gone with it.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn cert_file(&self) -> PathBuf {
        self.dir().join("cert.pem")
    }

    pub(crate) fn key_file(&self) -> PathBuf {
        self.dir().join("key.pem")
    }
}

/// What is in a certificate whose subject is `common_name`, with `dns` and `addresses` as its other
/// names; valid from 2020 to the end of 2029.
pub(crate) fn params(common_name: &str, dns: &[&str], addresses: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    if !common_name.is_empty() {
        params.distinguished_name.push(DnType::CommonName, common_name);
    }
    let dns = dns.iter().map(|name| SanType::DnsName((*name).try_into().unwrap()));
    let addresses = addresses.iter().map(|address| SanType::IpAddress(address.parse().unwrap()));
    params.subject_alt_names = dns.chain(addresses).collect();
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2030, 1, 1);
    params
}

/// A certificate in PEM and its key.
#[derive(Clone)]
pub(crate) struct Issued {
    pub(crate) cert: String,
    pub(crate) key: String,
}

/// One that has signed itself.
pub(crate) fn self_signed(params: &CertificateParams) -> Issued {
    let key = KeyPair::generate().unwrap();
    Issued { cert: params.self_signed(&key).unwrap().pem(), key: key.serialize_pem() }
}

/// Who signs other certificates.
pub(crate) struct Authority {
    pub(crate) cert: String,
    pub(crate) key: KeyPair,
    pub(crate) params: CertificateParams,
}

impl Authority {
    pub(crate) fn root(name: &str) -> Self {
        let (params, key) = (Self::params(name), KeyPair::generate().unwrap());
        Self { cert: params.self_signed(&key).unwrap().pem(), key, params }
    }

    /// Another authority, signed by this one.
    pub(crate) fn authorize(&self, name: &str) -> Self {
        let (params, key) = (Self::params(name), KeyPair::generate().unwrap());
        Self { cert: params.signed_by(&key, &self.issuer()).unwrap().pem(), key, params }
    }

    /// This authority's key and name, signed by `other`.
    pub(crate) fn cross_signed_by(&self, other: &Self) -> String {
        self.params.signed_by(&self.key, &other.issuer()).unwrap().pem()
    }

    pub(crate) fn issue(&self, params: &CertificateParams) -> Issued {
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer()).unwrap().pem();
        Issued { cert, key: key.serialize_pem() }
    }

    fn params(name: &str) -> CertificateParams {
        let mut params = params(name, &[], &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.use_authority_key_identifier_extension = true;
        params
    }

    fn issuer(&self) -> Issuer<'_, &KeyPair> {
        Issuer::from_params(&self.params, &self.key)
    }
}
