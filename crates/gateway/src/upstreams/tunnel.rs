//! Bytes that are carried both ways and not read: a WebSocket once both sides have switched to it
//! (RFC 6455), and a tunnel to a service (RFC 9110 section 9.3.6).

use super::Call;
use super::Within;
use super::answer;
use super::cut;
use super::endpoints::Lease;
use super::failed;
use super::pool;
use crate::body;
use crate::body::Body;
use crate::place::Place;
use crate::refuse::Failure;
use crate::refuse::Stop;
use countersign_core::record::Ending;
use countersign_enforce::Admitted;
use http::Response;
use http::StatusCode;
use hyper::upgrade::OnUpgrade;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt;
use tokio::io::ReadHalf;
use tokio::io::WriteHalf;
use tokio::time::Instant;

/// A close frame with status 1008, "policy violation" (section 7.4.1); from a server, unmasked.
const CLOSE_1008: [u8; 4] = [0x88, 0x02, 0x03, 0xf0];
/// The same with status 1001, "going away": it is the gateway that ends, and another may be there.
const CLOSE_1001: [u8; 4] = [0x88, 0x02, 0x03, 0xe9];
/// Time for the last bytes.
const GRACE: Duration = Duration::from_millis(500);
const BUFFER: usize = 16 * 1024;

/// Opens a tunnel to the address of `lease`, which the decision named, and to no other. What flows
/// in it is between the caller and the service, who have to prove themselves to each other.
pub(super) async fn open(
    mut call: Box<Call<'_>>,
    mut lease: Lease,
    Within { deadline, longest }: Within,
) -> Result<Response<Body>, Stop> {
    let (admitted, place) = (call.admitted.clone(), call.connected.place.clone());
    let Some(caller) = call.parts.extensions.remove::<OnUpgrade>() else {
        return Err(failed(&admitted, Failure::Upstream));
    };
    admitted.attempted(lease.pool().to_string());
    let dialled = tokio::select! {
        biased;
        code = admitted.cut().wait() => return Err(cut(&admitted, code)),
        dialled = lease.pool().dial(deadline) => dialled,
    };
    let upstream = match dialled {
        Ok(upstream) => upstream,
        Err(error) => {
            tracing::warn!(%error, receipt = %admitted.admission().receipt(), "no tunnel to an upstream");
            lease.failed();
            let failure = if error.is_late() {
                Failure::TimedOut
            } else {
                Failure::Upstream
            };
            return Err(failed(&admitted, failure));
        }
    };
    lease.succeeded();
    let mut response = Response::new(body::empty());
    answer::receipt(&admitted, response.headers_mut());
    admitted.mark_stream();
    admitted.answered(StatusCode::OK.as_u16());
    let deadline = answer::stream_end(&admitted, longest);
    tokio::spawn(async move {
        carry(caller, upstream, &admitted, deadline, &place).await;
        // The connection is over when its completion has been begun.
        drop((admitted, lease));
        drop(place);
    });
    Ok(response)
}

async fn carry(
    caller: OnUpgrade,
    upstream: Box<dyn pool::Bytes>,
    admitted: &Admitted,
    deadline: Instant,
    place: &Place,
) {
    let Ok(caller) = caller.await else {
        return admitted.ended(Ending::Aborted);
    };
    let (from_caller, to_caller) = split(caller);
    let (from_upstream, to_upstream) = tokio::io::split(upstream);
    let up = copy(from_caller, to_upstream, |bytes| {
        admitted.received(bytes.len() as u64);
    });
    let down = copy(from_upstream, to_caller, |bytes| {
        admitted.sent(bytes.len() as u64);
    });
    // Either side may have said all it has to say while the other goes on.
    let both = async { tokio::join!(up, down) };
    let ending = tokio::select! {
        _ = both => Ending::Done,
        _ = admitted.cut().wait() => Ending::Cut,
        () = tokio::time::sleep_until(deadline) => Ending::Cut,
        () = place.cut() => Ending::Cut,
    };
    admitted.ended(ending);
}

/// Carries the bytes of a WebSocket both ways until either side ends it, `deadline` passes, or the
/// hop or the gateway is ended. It keeps the `place` of the connection that it was, and the address
/// of the upstream busy.
pub(super) async fn websocket(
    caller: OnUpgrade,
    upstream: OnUpgrade,
    // Goes last, so that the connection is over when its completion has been begun.
    (deadline, place, _lease): (Instant, Arc<Place>, Lease),
    admitted: Admitted,
) {
    let (caller, upstream) = match tokio::try_join!(caller, upstream) {
        Ok(both) => both,
        Err(error) => {
            tracing::debug!(%error, "a websocket did not open");
            return admitted.ended(Ending::UpstreamFailed);
        }
    };
    let (from_caller, mut to_caller) = split(caller);
    let (from_upstream, to_upstream) = split(upstream);
    admitted.mark_messages();
    let (mut frames, asked) = (Frames::default(), Mutex::new(Frames::default()));
    let up = copy(from_caller, to_upstream, |bytes| {
        admitted.received(bytes.len() as u64);
        admitted.messages_received(asked.lock().pass(bytes));
    });
    let down = async {
        let mut from = from_upstream;
        let mut buffer = vec![0; BUFFER];
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            let bytes = buffer.get(..count).unwrap_or_default();
            frames.torn = true;
            if to_caller.write_all(bytes).await.is_err() {
                break;
            }
            frames.torn = false;
            admitted.messages_sent(frames.pass(bytes));
            admitted.sent(count as u64);
        }
    };
    let ended_by_us = tokio::select! {
        () = up => None,
        () = down => None,
        _ = admitted.cut().wait() => Some(CLOSE_1008),
        () = tokio::time::sleep_until(deadline) => Some(CLOSE_1008),
        () = place.cut() => Some(CLOSE_1001),
    };
    let Some(frame) = ended_by_us else {
        let _ = tokio::time::timeout(GRACE, to_caller.shutdown()).await;
        return admitted.ended(Ending::Done);
    };
    // Inside a frame there is no place for another one; the connection just ends.
    let close = async {
        if frames.at_boundary() {
            let _ = to_caller.write_all(&frame).await;
        }
        let _ = to_caller.shutdown().await;
    };
    // Whoever does not read is not waited for.
    let _ = tokio::time::timeout(GRACE, close).await;
    admitted.ended(Ending::Cut);
}

type Stream = TokioIo<Upgraded>;

fn split(upgraded: Upgraded) -> (ReadHalf<Stream>, WriteHalf<Stream>) {
    tokio::io::split(TokioIo::new(upgraded))
}

async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    count: impl Fn(&[u8]),
) {
    let mut buffer = vec![0; BUFFER];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let bytes = buffer.get(..read).unwrap_or_default();
        count(bytes);
        if to.write_all(bytes).await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}

/// Where frames begin and end in a stream of them (section 5.2).
#[derive(Debug, Default)]
struct Frames {
    header: Vec<u8>,
    payload: u64,
    /// Whether the frame is the last of a message: neither a control frame nor one that is continued.
    last: bool,
    /// A write was given up half-way.
    torn: bool,
}

impl Frames {
    /// Takes the next bytes; how many messages ended in them.
    fn pass(&mut self, mut bytes: &[u8]) -> u64 {
        let mut messages = 0;
        while !bytes.is_empty() {
            if self.payload > 0 {
                let taken = self.payload.min(bytes.len() as u64);
                self.payload -= taken;
                bytes = bytes
                    .get(usize::try_from(taken).unwrap_or(bytes.len())..)
                    .unwrap_or_default();
                messages += u64::from(self.payload == 0 && self.last);
                continue;
            }
            if let Some((first, rest)) = bytes.split_first() {
                self.header.push(*first);
                bytes = rest;
            }
            if let Some(payload) = payload(&self.header) {
                let first = self.header.first().copied().unwrap_or_default();
                self.last = first & 0x80 != 0 && first & 0x08 == 0;
                self.payload = payload;
                messages += u64::from(payload == 0 && self.last);
                self.header.clear();
            }
        }
        messages
    }

    fn at_boundary(&self) -> bool {
        !self.torn && self.payload == 0 && self.header.is_empty()
    }
}

/// The length of the payload, once the header is whole; a mask counts with it.
fn payload(header: &[u8]) -> Option<u64> {
    let (_, rest) = header.split_first()?;
    let (length, rest) = rest.split_first()?;
    let mask = if length & 0x80 == 0 { 0 } else { 4 };
    let length = match length & 0x7f {
        126 => u64::from(u16::from_be_bytes(rest.try_into().ok()?)),
        127 => u64::from_be_bytes(rest.try_into().ok()?),
        short => u64::from(short),
    };
    Some(length.saturating_add(mask))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_end_where_they_end() {
        let mut stream = vec![0x81, 0x02, b'h', b'i', 0x82, 126, 0x01, 0x00];
        stream.extend([0; 256]);
        stream.extend([0x82, 127, 0, 0, 0, 0, 0, 0, 0, 1, 9]);
        stream.extend([0x81, 0x81, 1, 2, 3, 4, b'x']);
        // A message in two frames with a ping between them, and one of nothing.
        stream.extend([0x01, 0x01, b'a', 0x89, 0x00, 0x80, 0x01, b'b', 0x81, 0x00]);
        let boundaries = [0, 4, 264, 275, 282, 285, 287, 290, 292];
        for size in [1, 3, 292] {
            let (mut frames, mut at, mut messages) = (Frames::default(), 0, 0);
            assert!(frames.at_boundary());
            for chunk in stream.chunks(size) {
                messages += frames.pass(chunk);
                at += chunk.len();
                assert_eq!(
                    frames.at_boundary(),
                    boundaries.contains(&at),
                    "{size} {at}"
                );
            }
            assert_eq!(messages, 6, "{size}");
        }
    }
}
