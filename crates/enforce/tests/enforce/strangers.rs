//! Strangers: what they are refused never takes the room of anybody else.

use crate::fixture::NOW;
use crate::fixture::Setup;
use crate::fixture::refused;
use countersign_core::hop::PartnerCertificate;
use countersign_core::hop::Peer;
use countersign_core::hop::RequestFault;
use countersign_core::hop::TlsFault;
use countersign_core::vocabulary::Code;
use countersign_core::vocabulary::Digest;
use countersign_core::vocabulary::Pillar;
use countersign_enforce::Ask;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

#[tokio::test]
async fn a_flood_of_strangers_is_counted_and_does_not_fill_the_ledger() {
    let setup = Setup::new();
    let mut receipts = 0;
    for _ in 0..500 {
        let refusal = setup
            .point
            .enforce(setup.stranger(TlsFault::Version))
            .await
            .unwrap_err();
        assert_eq!(refusal.code, Code::TLS_VERSION);
        receipts += usize::from(refusal.receipt.is_some());
    }
    assert_eq!(receipts, 10);
    setup.advance(Duration::from_secs(1));
    setup.beat();
    let counted = setup
        .wait_for(|record| record.event_type == "authn.refusals.counted")
        .await;
    assert_eq!(
        counted.metadata.get("refusals").map(Cow::as_ref),
        Some("490")
    );
    assert_eq!(
        (counted.code, counted.pillar),
        (Some(Code::TLS_VERSION), Some(Pillar::Encryption))
    );
    assert_eq!(setup.point.counts().refused, 500);
}

/// Another organisation vouches for it, and for names as many and as long as it likes.
#[tokio::test]
async fn a_certificate_that_is_no_partner_makes_nobody_less_of_a_stranger() {
    let setup = Setup::new();
    let names = (0..100).map(|it| format!("{it}.{}", "x".repeat(1000)));
    let shown: PartnerCertificate = serde_json::from_value(serde_json::json!({
        "dns_names": names.collect::<Vec<_>>(),
        "issuer": Digest::new([8; 32]),
        "leaf": Digest::new([1; 32]),
        "not_after": NOW.plus(Duration::from_secs(3600)),
        "not_before": NOW,
        "root": Digest::new([9; 32]),
        "serial": "2a",
    }))
    .unwrap();
    let mut receipts = Vec::new();
    for code in [Code::CONNECTION_FLOOD, Code::CERTIFICATE_UNTRUSTED] {
        for _ in 0..200 {
            let mut ask = setup.summary();
            ask.evidence.peer = Peer::Partner(Arc::new(shown.clone()));
            ask.facts.fault = (code == Code::CONNECTION_FLOOD).then(|| RequestFault {
                code,
                detail: "pings".to_owned(),
            });
            let refusal = setup.point.enforce(ask).await.unwrap_err();
            assert_eq!(refusal.code, code);
            receipts.extend(refusal.receipt);
        }
        assert_eq!(receipts.len(), 10, "{code}");
        let record = setup.record(&receipts[0]).to_bytes();
        assert!(record.len() < 8 << 10, "{}", record.len());
        receipts.clear();
        setup.advance(Duration::from_secs(1));
        setup.beat();
    }
}

#[tokio::test]
async fn strangers_leave_the_reserve_to_whoever_is_proven() {
    let setup = Setup::with_room(48 << 10, 24 << 10);
    let mut receipts = Vec::new();
    for _ in 0..100 {
        let asked = setup.point.enforce(setup.stranger(TlsFault::Version));
        receipts.push(asked.await.unwrap_err().receipt);
        setup.advance(Duration::from_millis(100));
        setup.beat();
    }
    assert!(receipts.first().unwrap().is_some() && receipts.last().unwrap().is_none());
    // Admissions and refusals of proven callers still find room, and so do completions.
    let admitted = setup.point.enforce(setup.summary_at_now()).await.unwrap();
    let receipt = admitted.admission().receipt().to_string();
    drop(admitted);
    setup.wait_for_completion(&receipt).await;
    let mut ask = setup.summary_at_now();
    ask.operation.object = "/nothing".into();
    let refusal = setup.point.enforce(ask).await.unwrap_err();
    refused(&setup, &refusal, Pillar::MicroSegmentation, Code::NO_EDGE);
}

#[tokio::test]
async fn strangers_have_a_quota_of_bytes() {
    let setup = Setup::with_room(256 << 20, 1 << 20);
    let mut ask = setup.stranger(TlsFault::Version);
    // The longest record a stranger can cause: control characters take six bytes each.
    ask.operation.object = "\u{1}".repeat(1000);
    ask.service = "\u{1}".repeat(1000);
    let mut kept = 0;
    for second in 0..90 {
        for source in 0..200_u8 {
            let mut ask = Ask {
                door: ask.door.clone(),
                service: ask.service.clone(),
                operation: ask.operation.clone(),
                evidence: ask.evidence.clone(),
                facts: ask.facts.clone(),
                context: ask.context,
            };
            ask.context.source_ip = Some([10, 0, source, 1].into());
            let refusal = setup.point.enforce(ask).await.unwrap_err();
            kept += u64::from(refusal.receipt.is_some());
        }
        if second == 60 {
            let before = kept;
            assert!(before < 61 * 200, "the quota was never reached");
        }
        setup.advance(Duration::from_secs(1));
        setup.beat();
    }
    let used = setup.point.spool().used_bytes();
    assert!(((60 << 20)..(66 << 20)).contains(&used), "{used}");
    // The next hour has room again.
    setup.advance(Duration::from_secs(3600));
    setup.beat();
    let refusal = setup.point.enforce(ask).await.unwrap_err();
    assert!(refusal.receipt.is_some());
}
