//! The vectors of two other implementations of SPIFFE: see `conformance/spiffe/README.md`.

use super::*;
use crate::KeySet;
use crate::Svid;
use countersign_core::vocabulary::TrustDomain;
use rustls_pki_types::pem::PemObject;
use std::collections::BTreeSet;
use std::path::Path;
use std::path::PathBuf;
use x509_parser::prelude::FromDer;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../conformance/spiffe")
}

fn bytes(path: &str) -> Vec<u8> {
    std::fs::read(folder().join("data").join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// The certificates of a PEM file, or of a DER file, in which they follow each other.
fn certificates(path: &str) -> Option<Vec<CertificateDer<'static>>> {
    let bytes = bytes(path);
    if !path.ends_with(".der") {
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
        return found.ok().filter(|found| !found.is_empty());
    }
    let (mut rest, mut found) = (bytes.as_slice(), Vec::new());
    while !rest.is_empty() {
        let (after, _) = X509Certificate::from_der(rest).ok()?;
        let (one, _) = rest.split_at(rest.len() - after.len());
        found.push(CertificateDer::from(one.to_vec()));
        rest = after;
    }
    Some(found)
}

fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
}

/// What the reader named in a line of `cases.txt` makes of a file: whether it takes it.
fn takes(reader: &str, path: &str) -> Option<()> {
    match reader {
        // Who a leaf says it is.
        "svid" => {
            let found = Leaf::parse(certificates(path)?.first()?).ok()?;
            assert_eq!(found.spiffe_id.trust_domain(), "example.org", "{path}");
        }
        // The intermediate after the leaf.
        "intermediate" => {
            x509::check_authority(&x509::read(certificates(path)?.get(1)?).ok()?).ok()?;
        }
        // Roots, all of the file.
        "bundle" => {
            let domain = TrustDomain::new("example.org").unwrap();
            TrustBundle::new(domain, &certificates(path)?, 1).ok()?;
        }
        // Certificate and key in one PEM file, or `certificate.der+key.der`.
        "pair" => match path.split_once('+') {
            None => drop(Svid::from_pem(&bytes(path), &bytes(path)).ok()?),
            Some((chain, key)) => {
                let chain: String = certificates(chain)?
                    .iter()
                    .map(|der| pem("CERTIFICATE", der))
                    .collect();
                let key = pem("PRIVATE KEY", &bytes(key));
                Svid::from_pem(chain.as_bytes(), key.as_bytes()).ok()?;
            }
        },
        // Token keys: taken if any of them is.
        "keys" => {
            let set = KeySet::from_jwks(&bytes(path), 1).ok()?;
            set.kids().next()?;
        }
        other => panic!("no reader `{other}`"),
    }
    Some(())
}

fn files(folder: &Path, found: &mut BTreeSet<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if !path.ends_with("LICENSE") {
            found.insert(path);
        }
    }
}

#[test]
fn spiffe_vectors() {
    let text = std::fs::read_to_string(folder().join("cases.txt")).unwrap();
    let data = folder().join("data");
    let (mut unjudged, mut stricter, mut wrong) = (BTreeSet::new(), 0, Vec::new());
    files(&data, &mut unjudged);
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let words: Vec<&str> = line.splitn(5, ' ').collect();
        let [reader, path, verdict, outcome] = words[..4] else {
            panic!("{line}")
        };
        for path in path.split('+') {
            unjudged.remove(&data.join(path));
        }
        assert!(["good", "bad"].contains(&verdict), "{line}");
        assert!(["taken", "refused"].contains(&outcome), "{line}");
        assert_ne!((verdict, outcome), ("bad", "taken"), "{line}");
        if (verdict, outcome) == ("good", "refused") {
            assert!(words.len() == 5, "no reason: {line}");
            stricter += 1;
        }
        if takes(reader, path).is_some() != (outcome == "taken") {
            wrong.push(line);
        }
    }
    assert!(
        wrong.is_empty(),
        "{} unexpected:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(unjudged.is_empty(), "in no line: {unjudged:#?}");
    assert!(stricter <= 14, "{stricter} good vectors are refused");
}
