//! Attacks made by others: Python's own TLS and cryptography, `openssl s_client` and curl.

use crate::fixture::Clinic;

/// Runs a script and checks that it saw all of these refused.
fn all_refused(script: &str, names: &[&str]) {
    let clinic = Clinic::start(false);
    let Some(seen) = clinic.script(script) else {
        return;
    };
    let passed: Vec<_> = seen["passed"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|it| it.as_str())
        .collect();
    for name in names {
        assert!(passed.contains(name), "`{name}` was not tried: {passed:?}");
    }
}

#[test]
fn tokens_that_open_nothing() {
    let everywhere = [
        "alg none",
        "HS256 with the public key as pem",
        "RS256",
        "wrong aud",
        "wrong iss",
        "wrong typ",
        "expired, forged",
        "not yet valid",
        "exp as string",
        "unknown kid",
        "jku",
        "jwk",
        "x5u",
        "crit",
        "1 MB",
        "static API key",
    ];
    let doors = [
        "none",
        "garbage",
        "wrong aud, real",
        "expired",
        "bound to another certificate",
        "two Authorization headers",
        "Basic",
        "revoked peer",
        "revoked token",
    ];
    let mut names = vec![
        "issuer: exchange by a workload the aud does not name".to_owned(),
        "issuer: exchange above ceil".to_owned(),
        "issuer: revoked subject".to_owned(),
        "mesh: revoked subject".to_owned(),
    ];
    for door in ["mesh", "vault", "issuer"] {
        names.extend(everywhere.iter().map(|name| format!("{door}: {name}")));
    }
    for door in ["mesh", "vault"] {
        names.extend(doors.iter().map(|name| format!("{door}: {name}")));
    }
    all_refused(
        "attacks.py",
        &names.iter().map(String::as_str).collect::<Vec<_>>(),
    );
}

#[test]
fn certificates_that_open_nothing() {
    let mut names = vec![
        "mesh: revoked".to_owned(),
        "mesh: revoked, connection open".to_owned(),
        "mesh: revoked, resumed by Python".to_owned(),
        "mesh: revoked, resumed by openssl".to_owned(),
        "control: revoked".to_owned(),
    ];
    for door in ["mesh", "control"] {
        for wrong in [
            "no certificate",
            "other CA",
            "SAN of another trust domain",
            "expired",
            "two URI SANs",
            "CA as leaf",
            "no EKU",
            "weak key",
        ] {
            names.extend(["Python", "openssl"].map(|client| format!("{door}: {wrong}, {client}")));
        }
    }
    all_refused(
        "certificates.py",
        &names.iter().map(String::as_str).collect::<Vec<_>>(),
    );
}

#[test]
fn the_attacks_of_the_tour_by_three_other_clients() {
    let mut names = vec!["a changed record".to_owned()];
    for client in ["Python", "curl", "openssl"] {
        for attack in [
            "TLS 1.2",
            "stolen token",
            "revoked session",
            "token for the vault",
            "report",
        ] {
            names.push(format!("{attack}, {client}"));
        }
    }
    all_refused(
        "story.py",
        &names.iter().map(String::as_str).collect::<Vec<_>>(),
    );
}
