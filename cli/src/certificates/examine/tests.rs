//! Tests of `examine`.

#![allow(clippy::indexing_slicing, clippy::unwrap_used)]

use std::sync::OnceLock;

use proptest::prelude::*;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};

use super::*;

/// Leaf, intermediate and root.
struct Pki([CertificateDer<'static>; 3]);

fn params(name: &str, is_ca: bool) -> CertificateParams {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.use_authority_key_identifier_extension = true;
    if is_ca {
        params.subject_alt_names = Vec::new();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    } else {
        params.subject_alt_names.push(SanType::IpAddress([192, 0, 2, 1].into()));
    }
    params
}

impl Pki {
    fn new() -> Self {
        let keys = [(); 3].map(|()| KeyPair::generate().unwrap());
        let root = params("Root", true);
        let middle = params("Intermediate", true);
        let leaf = params("bot.example.com", false);
        let by_root = Issuer::from_params(&root, &keys[2]);
        let by_middle = Issuer::from_params(&middle, &keys[1]);
        Self([
            leaf.signed_by(&keys[0], &by_middle).unwrap().der().clone(),
            middle.signed_by(&keys[1], &by_root).unwrap().der().clone(),
            root.self_signed(&keys[2]).unwrap().der().clone(),
        ])
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.0[2].clone()).unwrap();
        roots
    }

    /// What is said of the certificates at these places where the root is a public one.
    fn judge(&self, places: &[usize], is_sent: bool) -> Examination {
        let chain: Vec<_> = places.iter().map(|place| self.0[*place].clone()).collect();
        judge(&chain, &self.roots(), is_sent)
    }
}

fn judge(chain: &[CertificateDer<'static>], roots: &RootCertStore, is_sent: bool) -> Examination {
    let (host, now) = (Some("bot.example.com"), SystemTime::now());
    Question { chain, host, is_sent, now, roots, uploaded: None }.answer()
}

fn of<'a>(examination: &'a Examination, check: &str) -> &'a Line {
    examination.findings.iter().find(|line| line.check == check).unwrap()
}

#[test]
fn a_chain_to_a_known_root_is_accepted_as_it_is() {
    let pki = Pki::new();
    for is_sent in [false, true] {
        let full = pki.judge(&[0, 1], is_sent);
        assert!(full.accepted_as_signed && !full.accepted_as_uploaded);
        assert!(full.findings.iter().all(|line| line.level == Level::Ok), "{full:?}");
        assert_eq!(of(&full, "uploaded").what, "is not to be uploaded: it is CA-signed");
        let with_root = pki.judge(&[0, 1, 2], is_sent);
        assert!(with_root.accepted_as_signed && with_root.accepted_as_uploaded);
        assert_eq!(of(&with_root, "chain").level, Level::Warn);
    }
    // By the root itself, and nothing is missing.
    let middle = Question {
        chain: &pki.0[1..2],
        host: None,
        is_sent: false,
        now: SystemTime::now(),
        roots: &pki.roots(),
        uploaded: None,
    };
    assert_eq!(of(&middle.answer(), "chain").level, Level::Ok);
}

#[test]
fn a_chain_without_its_intermediate_is_refused() {
    let leaf = Pki::new().judge(&[0], true);
    assert!(!leaf.accepted_as_signed && !leaf.accepted_as_uploaded);
    let line = of(&leaf, "chain");
    assert_eq!(line.level, Level::Fail);
    assert!(line.what.contains("its issuer \"Intermediate\" is missing"), "{line:?}");
}

#[test]
fn a_chain_out_of_order_is_put_right_and_told_of() {
    let pki = Pki::new();
    for places in [&[1, 0][..], &[2, 1, 0], &[0, 2, 1]] {
        let examination = pki.judge(places, false);
        assert!(examination.accepted_as_signed, "{places:?}: {examination:?}");
        assert!(of(&examination, "chain").what.contains("out of order"), "{places:?}");
        assert_eq!(examination.certificates[0].subject, "bot.example.com");
    }
    // Of what a server sends the first one is the leaf, whatever it is.
    assert!(!pki.judge(&[1, 0], true).accepted_as_signed);
    let sent = pki.judge(&[0, 2, 1], true);
    assert!(sent.accepted_as_signed);
    assert_eq!(of(&sent, "chain").what, "the server sends the chain out of order");
}

#[test]
fn a_root_that_is_not_public_is_to_be_uploaded() {
    let examination = judge(&Pki::new().0, &public_roots(), false);
    assert!(examination.accepted_as_uploaded && !examination.accepted_as_signed);
    assert!(of(&examination, "CA-signed").what.contains("\"Root\" is no public root"));
}

fn pki() -> &'static Pki {
    static PKI: OnceLock<Pki> = OnceLock::new();
    PKI.get_or_init(Pki::new)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_it_panic(
        changes in prop::collection::vec((0..3_usize, any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::of((0..3_usize, any::<prop::sample::Index>())),
        is_sent: bool,
    ) {
        let mut ders = pki().0.each_ref().map(|der| der.to_vec());
        for (which, place, value) in changes {
            let place = place.index(ders[which].len());
            ders[which][place] = value;
        }
        if let Some((which, place)) = cut {
            let place = place.index(ders[which].len());
            ders[which].truncate(place);
        }
        let chain = ders.map(CertificateDer::from);
        let examination = judge(&chain, &pki().roots(), is_sent);
        // A changed leaf is never one that the root has signed.
        let is_changed = chain[0] != pki().0[0];
        prop_assert!(!(is_changed && examination.accepted_as_signed), "{examination:?}");
        serde_json::to_string(&examination).unwrap();
    }

    #[test]
    fn nor_do_bytes_that_never_were_a_certificate(
        ders in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..4),
    ) {
        let chain: Vec<_> = ders.into_iter().map(CertificateDer::from).collect();
        let examination = judge(&chain, &pki().roots(), true);
        prop_assert!(!examination.accepted_as_signed && !examination.accepted_as_uploaded);
    }
}
