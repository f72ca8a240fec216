//! Updates as they come, one a line.

use super::Broken;
use bytes::BytesMut;
use countersign_wire::control::Update;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use std::time::Duration;

/// The server says every second that it is there.
const SILENCE: Duration = Duration::from_secs(10);
/// The longest update: a snapshot, or the whole revocation log.
const LONGEST: usize = 64 * 1024 * 1024;

/// An answer that goes on for as long as the server and its connection do.
pub(super) struct Lines {
    body: Incoming,
    driving: tokio::task::AbortHandle,
    held: BytesMut,
}

impl Lines {
    /// Reads `body`; the task that drives its connection ends with this.
    pub(super) fn new(body: Incoming, driving: tokio::task::AbortHandle) -> Self {
        Self {
            body,
            driving,
            held: BytesMut::new(),
        }
    }

    pub(super) async fn next(&mut self) -> Result<Update, Broken> {
        let mut searched = 0;
        loop {
            let fresh = self.held.get(searched..).unwrap_or_default();
            if let Some(end) = fresh.iter().position(|byte| *byte == b'\n') {
                let line = self.held.split_to(searched + end + 1);
                return serde_json::from_slice(&line).map_err(|_| Broken::Form);
            }
            searched = self.held.len();
            if searched > LONGEST {
                return Err(Broken::Form);
            }
            let frame = tokio::time::timeout(SILENCE, self.body.frame()).await;
            let frame = frame.map_err(|_| Broken::Silent)?.ok_or(Broken::Ended)??;
            if let Ok(data) = frame.into_data() {
                self.held.extend_from_slice(&data);
            }
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.driving.abort();
    }
}
