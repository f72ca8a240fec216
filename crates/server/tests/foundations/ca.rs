//! The certificate authority: what it issues, what it refuses, what it keeps.

#![expect(clippy::unwrap_used, reason = "tests")]

use crate::support::Data;
use crate::support::NOW;
use crate::support::after;
use crate::support::domain;
use base64::Engine as _;
use countersign_core::hop::Peer;
use countersign_core::vocabulary::Name;
use countersign_core::vocabulary::SpiffeId;
use countersign_core::vocabulary::Timestamp;
use countersign_core::vocabulary::TrustDomain;
use countersign_net::Acceptor;
use countersign_net::Connector;
use countersign_net::Listener;
use countersign_net::Roots;
use countersign_net::Svid;
use countersign_net::SvidSource;
use countersign_server::ca::Ca;
use countersign_server::ca::CaError;
use countersign_server::ca::Issued;
use countersign_server::ca::LEAF_LIFETIME;
use countersign_testkit::not_run;
use rcgen::CertificateParams;
use rcgen::KeyPair;
use rcgen::SanType;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use std::time::SystemTime;
use tokio::time::Instant;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::X509Certificate;

const DAY: i64 = 24 * 3600;

fn open_at(data: &Data, now: Timestamp) -> Result<Ca, CaError> {
    Ca::open_or_create(data.keys(), Box::new(data.ca_seal()), domain(), now)
}

fn open(data: &Data) -> Ca {
    open_at(data, NOW).unwrap()
}

fn id(name: &str) -> SpiffeId {
    SpiffeId::of_identity(&domain(), &Name::new(name).unwrap())
}

/// A request and its key, made by another library.
fn request() -> (String, KeyPair) {
    let key = KeyPair::generate().unwrap();
    let csr = CertificateParams::default()
        .serialize_request(&key)
        .unwrap();
    (csr.pem().unwrap(), key)
}

fn leaf<T>(chain: &str, look: impl Fn(&X509Certificate<'_>) -> T) -> T {
    let (_, pem) = x509_parser::pem::parse_x509_pem(chain.as_bytes()).unwrap();
    look(&pem.parse_x509().unwrap())
}

fn names(issued: &Issued) -> Vec<String> {
    leaf(&issued.chain, |leaf| {
        let names = leaf.subject_alternative_name().unwrap().unwrap();
        assert!(
            names.critical,
            "with an empty subject the names are critical"
        );
        names
            .value
            .general_names
            .iter()
            .map(ToString::to_string)
            .collect()
    })
}

fn wall_clock() -> Timestamp {
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap();
    Timestamp::from_secs(i64::try_from(since.as_secs()).unwrap())
}

#[test]
fn a_leaf_has_exactly_the_profile_of_an_svid() {
    let data = Data::new();
    let ca = open(&data);
    let (csr, key) = request();
    let issued = ca.issue(&csr, &id("api"), NOW).unwrap();
    assert_eq!(names(&issued), ["URI(spiffe://acme.internal/api)"]);
    leaf(&issued.chain, |leaf| {
        assert_eq!(leaf.subject().iter().count(), 0);
        assert_eq!(leaf.public_key().raw, key_info(&key));
        let constraints = leaf.basic_constraints().unwrap().unwrap();
        assert!(!constraints.value.ca);
        let usage = leaf.key_usage().unwrap().unwrap();
        assert!(usage.critical);
        assert_eq!(usage.value.flags, 1, "digital signature and nothing else");
        let purposes = leaf.extended_key_usage().unwrap().unwrap().value;
        assert!(purposes.server_auth && purposes.client_auth && !purposes.any);
        assert!(purposes.other.is_empty() && !purposes.code_signing);
        let validity = leaf.validity();
        assert_eq!(validity.not_before.timestamp(), NOW.as_secs() - 30);
        let lasts = validity.not_after.timestamp() - validity.not_before.timestamp();
        assert_eq!(lasts, i64::try_from(LEAF_LIFETIME.as_secs()).unwrap());
        assert_eq!(issued.not_after.as_secs(), validity.not_after.timestamp());
        assert_eq!(issued.serial, hex::encode(leaf.raw_serial()));
    });
    assert_eq!(
        issued.chain.matches("BEGIN CERTIFICATE").count(),
        2,
        "the root is left out"
    );
    let again = ca.issue(&csr, &id("api"), NOW).unwrap();
    assert_ne!(again.serial, issued.serial);
    assert_ne!(again.leaf, issued.leaf);
}

fn key_info(key: &KeyPair) -> Vec<u8> {
    use rcgen::PublicKeyData as _;
    key.subject_public_key_info()
}

#[test]
fn nothing_but_the_key_is_taken_from_a_request() {
    let data = Data::new();
    let ca = open(&data);
    let key = KeyPair::generate().unwrap();
    let mut wish = CertificateParams::new(vec!["admin.acme.internal".to_owned()]).unwrap();
    wish.subject_alt_names
        .push(SanType::IpAddress([127, 0, 0, 1].into()));
    let uri = "spiffe://acme.internal/countersign/server/main";
    wish.subject_alt_names
        .push(SanType::URI(uri.try_into().unwrap()));
    wish.distinguished_name
        .push(rcgen::DnType::CommonName, "root");
    wish.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    wish.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
    let csr = wish.serialize_request(&key).unwrap().pem().unwrap();
    let issued = ca.issue(&csr, &id("mailer"), NOW).unwrap();
    assert_eq!(names(&issued), ["URI(spiffe://acme.internal/mailer)"]);
    leaf(&issued.chain, |leaf| {
        assert_eq!(leaf.subject().iter().count(), 0);
        assert!(!leaf.basic_constraints().unwrap().unwrap().value.ca);
        assert!(!leaf.key_usage().unwrap().unwrap().value.key_cert_sign());
    });
}

#[test]
fn whoever_does_not_hold_the_key_gets_nothing() {
    let data = Data::new();
    let ca = open(&data);
    let (csr, _) = request();
    let body: String = csr.lines().filter(|line| !line.starts_with('-')).collect();
    let der = base64::engine::general_purpose::STANDARD
        .decode(body)
        .unwrap();
    let pem = |der: &[u8]| {
        let text = base64::engine::general_purpose::STANDARD.encode(der);
        format!("-----BEGIN CERTIFICATE REQUEST-----\n{text}\n-----END CERTIFICATE REQUEST-----\n")
    };
    assert!(ca.issue(&pem(&der), &id("api"), NOW).is_ok());
    let mut forged = der.clone();
    *forged.last_mut().unwrap() ^= 1;
    let error = ca.issue(&pem(&forged), &id("api"), NOW).unwrap_err();
    assert!(matches!(error, CaError::Possession), "{error}");
    // Another's key with our signature.
    let (theirs, _) = request();
    let theirs: String = theirs
        .lines()
        .filter(|line| !line.starts_with('-'))
        .collect();
    let theirs = base64::engine::general_purpose::STANDARD
        .decode(theirs)
        .unwrap();
    let point = |der: &[u8]| {
        der.windows(2)
            .position(|pair| pair == [0x00, 0x04])
            .unwrap()
            + 1
    };
    let mut swapped = der.clone();
    let (at, from) = (point(&der), point(&theirs));
    swapped[at..at + 65].copy_from_slice(&theirs[from..from + 65]);
    let error = ca.issue(&pem(&swapped), &id("api"), NOW).unwrap_err();
    assert!(matches!(error, CaError::Possession), "{error}");
    let mut trailing = der;
    trailing.push(0);
    for bad in [
        pem(&trailing),
        String::new(),
        "x".repeat(20_000),
        csr.replace("REQUEST", ""),
    ] {
        let error = ca.issue(&bad, &id("api"), NOW).unwrap_err();
        assert!(matches!(error, CaError::Request), "{error}");
    }
}

#[test]
fn nobody_gets_a_name_that_is_not_theirs_to_ask_for() {
    let data = Data::new();
    let ca = open(&data);
    let (csr, _) = request();
    let other = SpiffeId::parse("spiffe://evil.example/api").unwrap();
    assert!(matches!(
        ca.issue(&csr, &other, NOW),
        Err(CaError::TrustDomain(_))
    ));
    for reserved in ["server/main", "door/hms", "anything"] {
        let id = format!("spiffe://acme.internal/countersign/{reserved}");
        let error = ca
            .issue(&csr, &SpiffeId::parse(&id).unwrap(), NOW)
            .unwrap_err();
        assert!(matches!(error, CaError::Reserved(_)), "{error}");
    }
    let gateway = SpiffeId::of_process(&domain(), "gateway", &Name::new("edge").unwrap());
    assert!(ca.issue(&csr, &gateway, NOW).is_ok());
    let name = Name::new("main").unwrap();
    for bad in [
        "*.acme.internal",
        "*.mesh.other.internal",
        "a.*.mesh.acme.internal",
        "Upper.case",
        "a..b",
        "",
        "a b",
        "-a",
        "x_y",
        "spiffe://x/y",
    ] {
        let error = ca
            .issue_own("gateway", &name, &[bad.to_owned()], NOW)
            .unwrap_err();
        assert!(matches!(error, CaError::Name(_)), "{bad}: {error}");
    }
    let mesh = ["*.mesh.acme.internal".to_owned()];
    let (_, issued) = ca.issue_own("gateway", &name, &mesh, NOW).unwrap();
    let all = names(&issued).join(" ");
    assert!(all.contains("*.mesh.acme.internal"), "{all}");
}

#[test]
fn weak_and_odd_keys_made_by_openssl_are_refused_and_strong_ones_are_not() {
    let data = Data::new();
    let ca = open(&data);
    for (key, strong) in [
        ("rsa:1024", false),
        ("rsa:2048", true),
        ("rsa:5120", false),
        ("ec:prime256v1", true),
        ("ec:secp384r1", true),
        ("ec:secp521r1", false),
        ("ec:secp256k1", false),
        ("ed25519", true),
        ("ed448", false),
    ] {
        let Some(csr) = openssl_request(data.path(), key, "-sha256") else {
            return;
        };
        match ca.issue(&csr, &id("api"), NOW) {
            Ok(_) if strong => {}
            Err(CaError::WeakKey) if !strong => {}
            other => panic!("{key}: {other:?}"),
        }
    }
    let Some(csr) = openssl_request(data.path(), "rsa:2048", "-sha1") else {
        return;
    };
    let error = ca.issue(&csr, &id("api"), NOW).unwrap_err();
    assert!(matches!(error, CaError::Possession), "{error}");
}

/// A request that asks for names, made by openssl; nothing where there is no openssl.
fn openssl_request(folder: &Path, key: &str, hash: &str) -> Option<String> {
    let (out, key_file) = (folder.join("out.csr"), folder.join("out.key"));
    let mut command = Command::new("openssl");
    command.args(["req", "-new", "-nodes", "-subj", "/CN=x", hash]);
    command.args([
        "-addext",
        "subjectAltName=URI:spiffe://acme.internal/admin",
        "-newkey",
    ]);
    match key.split_once(':') {
        Some(("ec", curve)) => command
            .args(["ec", "-pkeyopt"])
            .arg(format!("ec_paramgen_curve:{curve}")),
        _ => command.arg(key),
    };
    command.arg("-keyout").arg(&key_file).arg("-out").arg(&out);
    match command.output() {
        Err(error) => {
            not_run(&format!("openssl can't be run: {error}"));
            None
        }
        Ok(output) => {
            assert!(
                output.status.success(),
                "{}",
                String::from_utf8_lossy(&output.stderr)
            );
            Some(std::fs::read_to_string(out).unwrap())
        }
    }
}

#[test]
fn openssl_accepts_the_chain_for_both_purposes() {
    let data = Data::new();
    let now = wall_clock();
    let ca = open_at(&data, now).unwrap();
    let (csr, _) = request();
    let issued = ca.issue(&csr, &id("api"), now).unwrap();
    let file = |name: &str, text: &str| {
        let path = data.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (root, chain) = (
        file("root.pem", &ca.bundle()),
        file("chain.pem", &issued.chain),
    );
    for purpose in ["sslclient", "sslserver"] {
        let mut command = Command::new("openssl");
        command
            .args(["verify", "-x509_strict", "-purpose", purpose, "-CAfile"])
            .arg(&root);
        command.arg("-untrusted").arg(&chain).arg(&chain);
        let Ok(output) = command.output() else {
            return not_run("openssl can't be run");
        };
        let shown = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success() && shown.contains("OK"),
            "{purpose}: {output:?}"
        );
    }
    let other = open_at(&Data::new(), now).unwrap();
    let other = file("other.pem", &other.bundle());
    let mut command = Command::new("openssl");
    command
        .arg("verify")
        .arg("-CAfile")
        .arg(other)
        .arg("-untrusted")
        .arg(&chain)
        .arg(&chain);
    assert!(!command.output().unwrap().status.success());
}

/// One handshake between two SVIDs, each checking the other.
async fn handshake(ca: &Ca, server: Svid, client: Svid) -> Result<(Peer, Peer), String> {
    let _ = countersign_net::install_crypto();
    let roots = Roots::new(ca.trust_bundle(1).unwrap());
    let expected = server.spiffe_id().clone();
    let (server, client) = (SvidSource::new(server), SvidSource::new(client));
    let listener = Listener::Mutual {
        resumption: false,
        roots: roots.clone(),
        svid: server,
    };
    let acceptor = Acceptor::new(listener).unwrap();
    let connector = Connector::mutual(client, roots, expected).unwrap();
    let (here, there) = tokio::io::duplex(64 * 1024);
    let soon = || Instant::now() + Duration::from_secs(60);
    let (accepted, connected) = tokio::join!(
        acceptor.accept(here, soon()),
        connector.connect(there, "x", soon())
    );
    let (_, established) = accepted.map_err(|refused| refused.detail.clone())?;
    let (_, connection) = connected.map_err(|error| error.to_string())?;
    Ok((
        established.peer,
        Peer::Certificate(connection.peer.unwrap()),
    ))
}

#[tokio::test]
async fn our_own_verifier_accepts_what_is_issued_before_and_after_a_rotation() {
    let data = Data::new();
    let now = wall_clock();
    let ca = open_at(&data, now).unwrap();
    let hosts = [
        "localhost".to_owned(),
        "127.0.0.1".to_owned(),
        "::1".to_owned(),
    ];
    let (server, issued) = ca
        .issue_own("gateway", &Name::new("edge").unwrap(), &hosts, now)
        .unwrap();
    let uri = "URI(spiffe://acme.internal/countersign/gateway/edge)";
    assert_eq!(names(&issued).first().map(String::as_str), Some(uri));
    leaf(&issued.chain, |leaf| {
        let names = leaf.subject_alternative_name().unwrap().unwrap().value;
        let found = |wanted: &GeneralName<'_>| names.general_names.contains(wanted);
        assert!(found(&GeneralName::DNSName("localhost")));
        assert!(found(&GeneralName::IPAddress(&[127, 0, 0, 1])));
        assert_eq!(names.general_names.len(), 4);
    });
    let (csr, key) = request();
    let issued = ca.issue(&csr, &id("api"), now).unwrap();
    let client =
        || Svid::from_pem(issued.chain.as_bytes(), key.serialize_pem().as_bytes()).unwrap();
    let (seen, _) = handshake(&ca, server.clone(), client()).await.unwrap();
    let Peer::Certificate(facts) = seen else {
        panic!("{seen:?}")
    };
    assert_eq!(
        (facts.spiffe_id.clone(), facts.leaf),
        (id("api"), issued.leaf)
    );
    assert_eq!(
        (facts.serial.clone(), facts.issuer),
        (issued.serial.clone(), ca.issuer())
    );
    assert_eq!(
        (facts.root, facts.not_after),
        (ca.root_digest(), issued.not_after)
    );
    let before = ca.issuer();
    ca.rotate(now).unwrap();
    assert_ne!(ca.issuer(), before);
    let name = Name::new("edge").unwrap();
    let (rotated, _) = ca.issue_own("gateway", &name, &hosts, now).unwrap();
    handshake(&ca, rotated, client())
        .await
        .expect("what the old intermediate signed stays good");
    let other = open_at(&Data::new(), now).unwrap();
    let (stranger, _) = other.issue_own("gateway", &name, &[], now).unwrap();
    handshake(&ca, server, stranger)
        .await
        .expect_err("another root of the same name");
}

#[test]
fn a_leaf_never_outlives_its_intermediate() {
    let data = Data::new();
    let ca = open(&data);
    let ends = ca.intermediate_ends();
    assert_eq!(
        ends.since(NOW).as_secs(),
        u64::try_from(90 * DAY - 30).unwrap()
    );
    let (csr, _) = request();
    let almost = Timestamp::from_secs(ends.as_secs() - 600);
    let issued = ca.issue(&csr, &id("api"), almost).unwrap();
    assert_eq!(issued.not_after, ends);
    assert!(matches!(
        ca.issue(&csr, &id("api"), ends),
        Err(CaError::Ended)
    ));
    assert!(!ca.tick(after(59 * DAY)).unwrap());
    assert!(
        ca.tick(after(60 * DAY)).unwrap(),
        "renewed when 30 days are left"
    );
    assert!(ca.issue(&csr, &id("api"), ends).is_ok());
    let root_ends = ca.root_ends();
    assert_eq!(root_ends.since(NOW).as_secs() / 86_400, 3651);
    let late = Timestamp::from_secs(root_ends.as_secs() - 10 * DAY);
    ca.rotate(late).unwrap();
    assert_eq!(
        ca.intermediate_ends(),
        root_ends,
        "nor the intermediate its root"
    );
}

#[test]
fn the_root_is_opened_for_an_intermediate_and_at_no_other_time() {
    let data = Data::new();
    let ca = open(&data);
    let root = ca.root_digest();
    let (csr, _) = request();
    let kept = std::fs::read(data.ca_seal().path()).unwrap();
    std::fs::remove_file(data.ca_seal().path()).unwrap();
    drop(ca);
    let ca = open(&data);
    assert_eq!(ca.root_digest(), root);
    ca.issue(&csr, &id("api"), NOW).unwrap();
    assert!(ca.rotate(NOW).is_err(), "the seal of the root is elsewhere");
    assert!(
        !ca.tick(after(70 * DAY)).unwrap(),
        "which is no trouble while the intermediate lasts"
    );
    assert!(ca.issue(&csr, &id("api"), after(70 * DAY)).is_ok());
    assert!(ca.tick(after(91 * DAY)).is_err());
    let mut file = std::fs::OpenOptions::new();
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = file
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(data.ca_seal().path())
        .unwrap();
    std::io::Write::write_all(&mut file, &kept).unwrap();
    assert!(ca.tick(after(70 * DAY)).unwrap());
    assert_eq!(ca.root_digest(), root);
}

#[test]
fn a_missing_or_foreign_file_stops_it_and_no_second_root_is_made() {
    let data = Data::new();
    let root = data.keys_path().join("ca-root.pem");
    drop(open(&data));
    let kept = std::fs::read(&root).unwrap();
    std::fs::remove_file(&root).unwrap();
    assert!(matches!(
        open_at(&data, NOW),
        Err(CaError::Files("ca-root.pem"))
    ));
    std::fs::write(&root, kept).unwrap();
    std::fs::set_permissions(&root, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let other = TrustDomain::new("other.internal").unwrap();
    let opened = Ca::open_or_create(data.keys(), Box::new(data.ca_seal()), other, NOW);
    assert!(matches!(opened, Err(CaError::Files(_))));
    assert!(open_at(&data, NOW).is_ok());
}

#[test]
fn key_files_hold_no_key_in_the_clear_and_are_their_owners() {
    use std::os::unix::fs::PermissionsExt as _;
    let data = Data::new();
    let ca = open(&data);
    for (path, content) in data.files() {
        let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", path.display());
        // What every PKCS#8 document of a P-256 key holds: the two object identifiers.
        for mark in [&b"\x2a\x86\x48\xce\x3d\x02\x01"[..], b"PRIVATE KEY", b"TUM"] {
            let found = content.windows(mark.len()).any(|part| part == mark);
            assert!(!found, "{} holds a key", path.display());
        }
    }
    assert!(format!("{ca:?}").contains("acme.internal"));
    let (csr, _) = request();
    let first = ca.issue(&csr, &id("api"), NOW).unwrap();
    drop(ca);
    assert_eq!(
        open(&data).issue(&csr, &id("api"), NOW).unwrap().issuer,
        first.issuer
    );
}
