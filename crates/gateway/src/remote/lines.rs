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

    /// The next update, and how many bytes its line has.
    pub(super) async fn next(&mut self) -> Result<(Update, usize), Broken> {
        let mut searched = 0;
        loop {
            if let Some(taken) = taken(&mut self.held, &mut searched)? {
                return Ok(taken);
            }
            let frame = tokio::time::timeout(SILENCE, self.body.frame()).await;
            let frame = frame.map_err(|_| Broken::Silent)?.ok_or(Broken::Ended)??;
            if let Ok(data) = frame.into_data() {
                self.held.extend_from_slice(&data);
            }
        }
    }
}

/// The next update, if its line is whole; how much of what is held was searched for its end.
fn taken(held: &mut BytesMut, searched: &mut usize) -> Result<Option<(Update, usize)>, Broken> {
    let fresh = held.get(*searched..).unwrap_or_default();
    let Some(end) = fresh.iter().position(|byte| *byte == b'\n') else {
        *searched = held.len();
        return match *searched > LONGEST {
            true => Err(Broken::Form),
            false => Ok(None),
        };
    };
    let line = held.split_to(*searched + end + 1);
    *searched = 0;
    let update = serde_json::from_slice(&line).map_err(|_| Broken::Form)?;
    Ok(Some((update, line.len())))
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.driving.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use countersign_core::snapshot::Revocation;
    use countersign_core::snapshot::Revoked;
    use countersign_core::vocabulary::Timestamp;
    use proptest::prelude::*;

    fn line(epoch: u64, token: &str) -> String {
        let revocation = Revocation {
            at: Timestamp::from_secs(1_700_000_000),
            epoch,
            lifted: false,
            what: Revoked::Token(token.to_owned()),
        };
        written(&Update::Revocations(vec![revocation]))
    }

    fn written(update: &Update) -> String {
        serde_json::to_string(update).unwrap() + "\n"
    }

    /// Everything that is read of a text that comes in these pieces.
    fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<String>, Broken> {
        let (mut held, mut searched) = (BytesMut::new(), 0);
        let mut updates = Vec::new();
        for piece in pieces {
            held.extend_from_slice(piece);
            while let Some((update, bytes)) = taken(&mut held, &mut searched)? {
                updates.push(written(&update));
                assert_eq!(updates.last().map(String::len), Some(bytes));
            }
        }
        Ok(updates)
    }

    #[test]
    fn a_line_without_an_end_is_given_up() {
        let mut held = BytesMut::zeroed(LONGEST);
        let mut searched = 0;
        assert!(matches!(taken(&mut held, &mut searched), Ok(None)));
        held.extend_from_slice(b"x");
        assert!(matches!(taken(&mut held, &mut searched), Err(Broken::Form)));
    }

    proptest! {
        #[test]
        fn updates_are_the_same_however_they_are_cut(
            tokens in prop::collection::vec(".{0,16}", 0..6),
            size in 1_usize..64,
        ) {
            let lines: Vec<_> = (1..).zip(&tokens).map(|(epoch, token)| line(epoch, token)).collect();
            let text = lines.concat();
            let read = read(text.as_bytes().chunks(size));
            prop_assert_eq!(read.ok(), Some(lines));
        }

        #[test]
        fn what_is_no_update_ends_the_stream(bytes in prop::collection::vec(any::<u8>(), 0..256), size in 1_usize..64) {
            let first = line(1, "t");
            let all = [first.as_bytes(), &bytes].concat();
            match read(all.chunks(size)) {
                // Bytes at random are no update: nothing of them is taken without an error.
                Ok(updates) => {
                    prop_assert_eq!(updates, [first]);
                    prop_assert!(!bytes.contains(&b'\n'));
                }
                Err(broken) => prop_assert!(matches!(broken, Broken::Form)),
            }
        }
    }
}
