//! Texts from outside: no input makes a parser panic, and what is taken has one spelling.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests outside test functions"
)]

use countersign_core::snapshot::Bundle;
use countersign_core::snapshot::Revocation;
use countersign_core::snapshot::Revocations;
use countersign_core::snapshot::Revoked;
use countersign_core::vocabulary::Code;
use countersign_core::vocabulary::Digest;
use countersign_core::vocabulary::Name;
use countersign_core::vocabulary::Operation;
use countersign_core::vocabulary::OperationPattern;
use countersign_core::vocabulary::Permission;
use countersign_core::vocabulary::SpiffeId;
use countersign_core::vocabulary::Timestamp;
use countersign_core::vocabulary::TrustDomain;
use proptest::prelude::*;

/// Anything, and what is nearly right.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[a-z0-9._-]{0,70}",
        "(CSD|csd)[0-9]{0,4}",
        "[0-9a-fA-F]{62,66}",
        "spiffe://[a-zA-Z0-9._-]{0,20}(/[a-zA-Z0-9._%-]{0,10}){0,4}",
        "(GET|HEAD|read|connect|TRACE|get)( [/*.a-z0-9-]{0,20}){0,2}",
        "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}.[0-9]{6}Z",
        "[a-z:*.-]{0,20}",
    ]
}

fn pattern() -> impl Strategy<Value = OperationPattern> {
    let path = "(GET|HEAD|POST) /((a|b|\\*)/){0,3}(a|b|\\*|\\*\\*)?";
    let name = "(read|write) (a|b|\\*)([./](a|b|\\*)){0,2}";
    prop_oneof![path, name].prop_filter_map("no pattern", |text| text.parse().ok())
}

fn operation() -> impl Strategy<Value = Operation> {
    let path = ("(GET|HEAD|POST)", "/((a|b)/){0,3}(a|b)?");
    let name = ("(read|write)", "(a|b)([./](a|b)){0,2}");
    prop_oneof![path, name].prop_map(|(verb, object)| Operation::named(&verb, &object))
}

fn revoked() -> impl Strategy<Value = Revoked> {
    let digest = any::<[u8; 32]>().prop_map(Digest::new);
    prop_oneof![
        digest.clone().prop_map(Revoked::Certificate),
        digest.clone().prop_map(Revoked::Issuer),
        digest.prop_map(Revoked::Session),
        "[a-z]{1,4}".prop_map(|name| {
            Revoked::Identity(SpiffeId::parse(&format!("spiffe://a.b/{name}")).unwrap())
        }),
        ".{0,20}".prop_map(Revoked::Subject),
        ".{0,20}".prop_map(Revoked::Token),
    ]
}

fn bundle() -> impl Strategy<Value = Bundle> {
    let files = prop::collection::btree_map(".{0,12}", ".{0,40}", 0..4);
    let roots = prop::collection::vec(any::<[u8; 32]>().prop_map(Digest::new), 0..3);
    (any::<bool>(), ".{0,12}", files, roots).prop_map(|(dev, entry, files, roots)| Bundle {
        dev,
        entry,
        files,
        roots,
        ..Bundle::default()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn what_is_taken_has_one_spelling(text in text()) {
        if let Ok(name) = Name::new(&text) {
            prop_assert_eq!(name.as_str(), &text);
        }
        if let Ok(domain) = TrustDomain::new(&text) {
            prop_assert_eq!(domain.as_str(), &text);
        }
        if let Ok(id) = SpiffeId::parse(&text) {
            prop_assert_eq!(format!("spiffe://{}/{}", id.trust_domain(), id.path()), text.as_str());
        }
        if let Ok(permission) = Permission::new(&text) {
            prop_assert_eq!(permission.as_str(), &text);
        }
        if let Some(code) = Code::parse(&text) {
            prop_assert_eq!(code.to_string(), text.as_str());
        }
        if let Ok(digest) = Digest::from_hex(&text) {
            // Tools print hexadecimal either way; written it is lower case.
            prop_assert_eq!(digest.to_string(), text.to_ascii_lowercase());
        }
        if let Ok(pattern) = text.parse::<OperationPattern>() {
            prop_assert_eq!(&pattern.to_string().parse::<OperationPattern>().unwrap(), &pattern);
        }
        let _ = text.parse::<Timestamp>();
    }

    /// The same, where they come as JSON strings.
    #[test]
    fn json_takes_no_more_than_text(text in text()) {
        let json = serde_json::to_vec(&text).unwrap();
        prop_assert_eq!(serde_json::from_slice::<Name>(&json).ok(), Name::new(&text).ok());
        prop_assert_eq!(serde_json::from_slice::<SpiffeId>(&json).ok(), SpiffeId::parse(&text).ok());
        prop_assert_eq!(serde_json::from_slice::<Digest>(&json).ok(), Digest::from_hex(&text).ok());
        prop_assert_eq!(serde_json::from_slice::<Code>(&json).ok(), Code::parse(&text));
    }

    /// What a role is narrowed by must be at least as strict as what it is compared with says.
    #[test]
    fn patterns_agree_with_each_other(one in pattern(), other in pattern(), operation in operation()) {
        prop_assert!(one.covers(&one) && one.overlaps(&one));
        prop_assert_eq!(one.overlaps(&other), other.overlaps(&one));
        let (here, there) = (one.matches(&operation, false), other.matches(&operation, false));
        prop_assert!(!(one.covers(&other) && there) || here, "{} covers {}, {:?}", one, other, operation);
        prop_assert!(!(here && there) || one.overlaps(&other), "{} and {}, {:?}", one, other, operation);
        prop_assert!(!here || one.matches(&operation, true));
    }

    #[test]
    fn a_bundle_reads_back_under_its_own_revision_alone(bundle in bundle(), at: prop::sample::Index, byte: u8) {
        let (mut bytes, revision) = (bundle.bytes(), bundle.revision());
        prop_assert_eq!(&Bundle::read(&bytes, &revision).unwrap(), &bundle);
        let at = at.index(bytes.len());
        prop_assume!(bytes[at] != byte);
        bytes[at] = byte;
        prop_assert!(Bundle::read(&bytes, &revision).is_err());
    }

    #[test]
    fn revocations_are_taken_in_order_alone(
        lines in prop::collection::vec((0_u64..5, any::<bool>(), revoked()), 0..8)
    ) {
        let mut known = Revocations::default();
        let mut epoch = 0;
        for (next, lifted, what) in lines {
            let line = Revocation { at: Timestamp::from_secs(0), epoch: next, lifted, what };
            let read: Revocation = serde_json::from_slice(&serde_json::to_vec(&line).unwrap()).unwrap();
            prop_assert_eq!(&read, &line);
            // What is known already is no gap.
            let fits = next <= epoch + 1;
            prop_assert_eq!(known.apply(&line).is_ok(), fits);
            epoch = if fits { epoch.max(next) } else { epoch };
            prop_assert_eq!(known.epoch(), epoch);
        }
    }
}
