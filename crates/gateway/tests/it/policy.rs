//! What a change of policy ends, and what it leaves to finish.

use crate::support::Answer;
use crate::support::Cast;
use crate::support::request;
use countersign_core::snapshot::Snapshot;
use http_body_util::BodyExt;
use std::sync::Arc;

#[tokio::test]
async fn streams_end_with_their_edge_and_requests_finish() {
    let cast = Cast::new().await;
    let front = cast.workload("front");
    let token = format!("Bearer {}", cast.token(&front, "hms-api"));
    let headers = [("host", "hms-api"), ("authorization", token.as_str())];
    let mut events = cast.dial_mesh(&front, "hms-api", false).await;
    let mut stream = events
        .start(request("GET", "/v1/events", &headers, ""))
        .await
        .unwrap();
    stream.frame().await.unwrap().unwrap();
    let mut endless = cast.dial_mesh(&front, "hms-api", false).await;
    let mut answer = endless
        .start(request("GET", "/v1/endless", &headers, ""))
        .await
        .unwrap();
    answer.frame().await.unwrap().unwrap();
    let mut bundle = cast.point.snapshot().bundle().clone();
    for text in bundle.files.values_mut() {
        let edge = "front -> hms-api: [GET /v1/**, POST /v1/**]";
        assert!(text.contains(edge));
        *text = text.replace(edge, "front -> hms-api: [POST /v1/**]");
    }
    let next = Arc::new(Snapshot::from_bundle(bundle).unwrap());
    assert_eq!(cast.point.install(&next), 1);
    let ended = Answer::read(stream).await;
    let receipt = ended.header("countersign-receipt").to_owned();
    let completion = cast.completion(&receipt).await;
    assert_eq!(
        (&completion["ending"], &completion["code"]),
        (&"cut".into(), &"CSD401".into())
    );
    // The request is still under way.
    assert_eq!(cast.point.open(), 1);
    drop((answer, endless));
}
