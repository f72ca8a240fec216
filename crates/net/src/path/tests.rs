//! C2SP's x509-limbo against the two validators of this crate: see `conformance/x509/README.md`.

#![expect(clippy::unwrap_in_result, reason = "tests")]

use super::*;
use crate::PublicRoots;
use crate::TrustBundle;
use countersign_core::vocabulary::Timestamp;
use countersign_core::vocabulary::TrustDomain;
use proptest::prelude::*;
use proptest::sample::Index;
use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::CertifiedIssuer;
use rcgen::DnType;
use rcgen::ExtendedKeyUsagePurpose;
use rcgen::GeneralSubtree;
use rcgen::IsCa;
use rcgen::KeyPair;
use rcgen::KeyUsagePurpose;
use rcgen::NameConstraints;
use rcgen::SanType;
use rustls_pki_types::ServerName;
use rustls_pki_types::pem::PemObject;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::LazyLock;

#[derive(Deserialize)]
struct Limbo {
    testcases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    expected_peer_name: Option<PeerName>,
    expected_result: Expected,
    id: String,
    peer_certificate: String,
    trusted_certs: Vec<String>,
    untrusted_intermediates: Vec<String>,
    validation_time: Option<String>,
}

#[derive(Deserialize)]
struct PeerName {
    value: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum Expected {
    Failure,
    Success,
}

const MADE: &str = "2024-06-01T00:00:00";

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../conformance/x509")
}

fn der(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

impl Case {
    fn chain(&self) -> Vec<CertificateDer<'static>> {
        let pems = std::iter::once(&self.peer_certificate).chain(&self.untrusted_intermediates);
        pems.map(|pem| der(pem)).collect()
    }

    /// The case's own time, or one at which these cases were made; whole seconds, as a handshake
    /// has them.
    fn time(&self) -> UnixTime {
        let text = self.validation_time.as_deref();
        let (second, _) = text.unwrap_or(MADE).split_at(MADE.len());
        let at: Timestamp = format!("{second}.000000Z").parse().unwrap();
        UnixTime::since_unix_epoch(at.since(Timestamp::from_secs(0)))
    }

    fn name(&self) -> ServerName<'_> {
        let name = self.expected_peer_name.as_ref().unwrap();
        ServerName::try_from(name.value.as_str()).unwrap()
    }

    /// As a peer of our trust domain, the SPIFFE ID apart: where an SVID has its URI, these have
    /// DNS names, so the name is compared as webpki does.
    fn as_member(&self) -> Result<(), String> {
        let domain = TrustDomain::new("limbo.example").unwrap();
        let roots: Vec<_> = self.trusted_certs.iter().map(|pem| der(pem)).collect();
        let bundle = TrustBundle::new(domain, &roots, 1).map_err(|error| error.to_string())?;
        let chain = self.chain();
        let found = verify(&chain, bundle.anchors(), self.time(), Role::Server);
        found.map_err(|error| error.to_string())?;
        EndEntityCert::try_from(&chain[0])
            .and_then(|end| end.verify_is_valid_for_subject_name(&self.name()))
            .map_err(|error| error.to_string())
    }

    /// As a server of the public web.
    fn as_public(&self) -> Result<(), String> {
        let roots = PublicRoots::none().with_pem(self.trusted_certs.join("\n").as_bytes());
        let verifier = roots
            .and_then(|roots| roots.verifier())
            .map_err(|error| error.to_string())?;
        let chain = self.chain();
        let (leaf, rest) = chain.split_first().unwrap();
        rustls::client::danger::ServerCertVerifier::verify_server_cert(
            verifier.as_ref(),
            leaf,
            rest,
            &self.name(),
            &[],
            self.time(),
        )
        .map(|_| ())
        .map_err(|error| error.to_string())
    }
}

/// `id reason ..` per line.
fn exceptions(file: &str) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(folder().join(file)).unwrap();
    let mut excepted = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (id, reason) = line.split_once(' ').unwrap();
        let twice = excepted.insert(id.to_owned(), reason.trim().to_owned());
        assert!(twice.is_none(), "{id} is excepted twice");
    }
    excepted
}

/// Every case ends as limbo says, except those listed, which must all end otherwise.
fn judge(file: &str, ceiling: usize, run: impl Fn(&Case) -> Result<(), String>) {
    let excepted = exceptions(file);
    assert!(excepted.len() <= ceiling, "{} exceptions", excepted.len());
    let text = std::fs::read(folder().join("data/limbo.json")).unwrap();
    let limbo: Limbo = serde_json::from_slice(&text).unwrap();
    let (mut known, mut wrong) = (BTreeSet::new(), Vec::new());
    for case in &limbo.testcases {
        assert!(known.insert(case.id.as_str()), "{} comes twice", case.id);
        let outcome = run(case);
        let agrees = outcome.is_ok() == (case.expected_result == Expected::Success);
        if agrees == excepted.contains_key(&case.id) {
            wrong.push(format!(
                "{} {:?}: {outcome:?}",
                case.id, case.expected_result
            ));
        }
    }
    assert_eq!(known.len(), 114);
    for id in excepted.keys() {
        assert!(known.contains(id.as_str()), "{id} is no case");
    }
    assert!(
        wrong.is_empty(),
        "{} unexpected:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn limbo_as_a_member_of_the_trust_domain() {
    judge("exceptions-member.txt", 30, Case::as_member);
}

#[test]
fn limbo_as_a_server_of_the_public_web() {
    judge("exceptions-public.txt", 51, Case::as_public);
}

/// A leaf with these names below an intermediate that may name hosts below `acme.internal` alone.
fn constrained(names: &[SanType]) -> Result<(), SvidError> {
    let authority = || {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params
    };
    let key = || KeyPair::generate().unwrap();
    let root = CertifiedIssuer::self_signed(authority(), key()).unwrap();
    let mut narrow = authority();
    narrow.name_constraints = Some(NameConstraints {
        permitted_subtrees: vec![GeneralSubtree::DnsName("acme.internal".to_owned())],
        excluded_subtrees: vec![GeneralSubtree::DnsName("vault.acme.internal".to_owned())],
    });
    let intermediate = CertifiedIssuer::signed_by(narrow, key(), &root).unwrap();
    let mut leaf = CertificateParams::default();
    leaf.subject_alt_names = names.to_vec();
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let leaf = leaf.signed_by(&key(), &intermediate).unwrap();
    let domain = TrustDomain::new("acme.internal").unwrap();
    let bundle = TrustBundle::new(domain, &[root.der().clone()], 1).unwrap();
    let chain = [leaf.der().clone(), intermediate.der().clone()];
    verify(&chain, bundle.anchors(), UnixTime::now(), Role::Client).map(|_| ())
}

/// A chain of limbo's that holds, its roots and its time.
static GOOD: LazyLock<(Vec<CertificateDer<'static>>, TrustBundle, UnixTime)> =
    LazyLock::new(|| {
        let text = std::fs::read(folder().join("data/limbo.json")).unwrap();
        let limbo: Limbo = serde_json::from_slice(&text).unwrap();
        let id = "rfc5280::validity::notbefore-exact";
        let case = limbo.testcases.iter().find(|case| case.id == id).unwrap();
        let roots: Vec<_> = case.trusted_certs.iter().map(|pem| der(pem)).collect();
        let domain = TrustDomain::new("limbo.example").unwrap();
        let bundle = TrustBundle::new(domain, &roots, 1).unwrap();
        (case.chain(), bundle, case.time())
    });

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    /// A chain that holds, holds only as it is.
    #[test]
    fn an_altered_chain_leads_nowhere(which: Index, at: Index, bit in 0_u8..8, cut: bool) {
        let (chain, bundle, time) = &*GOOD;
        prop_assert!(verify(chain, bundle.anchors(), *time, Role::Server).is_ok());
        let mut chain = chain.clone();
        let which = which.index(chain.len());
        let mut bytes = chain[which].to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        if cut {
            bytes.truncate(at);
        }
        chain[which] = CertificateDer::from(bytes);
        prop_assert!(verify(&chain, bundle.anchors(), *time, Role::Server).is_err());
    }

    #[test]
    fn rubbish_is_no_chain(chain in prop::collection::vec(any::<Vec<u8>>(), 0..4)) {
        let (good, bundle, time) = &*GOOD;
        let rubbish: Vec<_> = chain.into_iter().map(CertificateDer::from).collect();
        prop_assert!(verify(&rubbish, bundle.anchors(), *time, Role::Client).is_err());
        // Beside a good chain it is passed over.
        let beside = [good.as_slice(), &rubbish].concat();
        let _ = verify(&beside, bundle.anchors(), *time, Role::Server);
    }
}

#[test]
fn name_constraints_of_an_intermediate_hold() {
    let host = |name: &str| SanType::DnsName(name.try_into().unwrap());
    assert_eq!(constrained(&[host("web.acme.internal")]), Ok(()));
    for bad in [
        "vault.acme.internal",
        "a.vault.acme.internal",
        "acme.example",
    ] {
        let names = [host("web.acme.internal"), host(bad)];
        assert_eq!(constrained(&names), Err(SvidError::Untrusted), "{bad}");
    }
}

#[test]
fn a_path_states_each_key_that_vouches_for_the_leaf() {
    let authority = |name: &str| {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params
    };
    let key = || KeyPair::generate().unwrap();
    let root = CertifiedIssuer::self_signed(authority("root"), key()).unwrap();
    let upper = CertifiedIssuer::signed_by(authority("upper"), key(), &root).unwrap();
    let lower = CertifiedIssuer::signed_by(authority("lower"), key(), &upper).unwrap();
    let domain = TrustDomain::new("acme.internal").unwrap();
    let bundle = TrustBundle::new(domain, &[root.der().clone()], 1).unwrap();
    let digest = |issuer: &CertifiedIssuer<'_, KeyPair>| {
        let certificate = x509::read(issuer.der()).unwrap();
        crate::digest::sha256(certificate.public_key().raw)
    };
    let stated = |by: &CertifiedIssuer<'_, KeyPair>, between: &[&CertifiedIssuer<'_, KeyPair>]| {
        let mut leaf = CertificateParams::default();
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let mut chain = vec![leaf.signed_by(&key(), by).unwrap().der().clone()];
        chain.extend(between.iter().map(|it| it.der().clone()));
        let path = verify(&chain, bundle.anchors(), UnixTime::now(), Role::Client).unwrap();
        (path.issuer, path.issuers_above.to_vec())
    };
    let (r, u, l) = (digest(&root), digest(&upper), digest(&lower));
    // In whatever order they are shown.
    assert_eq!(stated(&lower, &[&upper, &lower]), (l, vec![u, r]));
    assert_eq!(stated(&lower, &[&lower, &upper, &root]), (l, vec![u, r]));
    assert_eq!(stated(&upper, &[&lower, &upper]), (u, vec![r]));
    assert_eq!(stated(&root, &[]), (r, vec![]));
}
