use crate::connected::Connected;
use aws_lc_rs::rand;
use countersign_core::snapshot::DoorKind;
use http::HeaderMap;

/// The system has no random bytes to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system has no randomness")]
pub(crate) struct NoRandomness;

/// Names of one request, for records, upstreams and the caller.
#[derive(Clone, Debug)]
pub(crate) struct Ids {
    /// A random UUID (RFC 9562 version 4), never the caller's.
    pub(crate) request: String,
    /// W3C trace id.
    pub(crate) trace: String,
    /// What the next hop gets as `traceparent`.
    pub(crate) traceparent: String,
    /// Whether the caller's trace goes on, and so its `tracestate`.
    pub(crate) continued: bool,
}

impl Ids {
    /// New ids. A workload's trace goes on; a browser's is started here, where trust starts.
    ///
    /// # Errors
    /// [`NoRandomness`].
    pub(crate) fn of(connected: &Connected, headers: &HeaderMap) -> Result<Self, NoRandomness> {
        let parent = match connected.kind {
            DoorKind::Mesh => parent(headers),
            // Traces begin where trust begins: another organisation's are its own.
            DoorKind::Browser | DoorKind::Local | DoorKind::Partner => None,
        };
        let continued = parent.is_some();
        let (trace, flags) = match parent {
            Some(parent) => parent,
            None => (hex::encode(random::<16>()?), "00".to_owned()),
        };
        let span = hex::encode(random::<8>()?);
        Ok(Self {
            request: uuid(random()?),
            traceparent: format!("00-{trace}-{span}-{flags}"),
            trace,
            continued,
        })
    }
}

/// Random bytes: what they are for can be guessed without, so there is no going on without.
///
/// # Errors
/// [`NoRandomness`].
pub(crate) fn random<const N: usize>() -> Result<[u8; N], NoRandomness> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).map_err(|_unspecified| NoRandomness)?;
    Ok(bytes)
}

fn uuid(mut bytes: [u8; 16]) -> String {
    let [_, _, _, _, _, _, version, _, variant, ..] = &mut bytes;
    *version = (*version & 0x0f) | 0x40;
    *variant = (*variant & 0x3f) | 0x80;
    let text = hex::encode(bytes);
    let part = |from: usize, to: usize| text.get(from..to).unwrap_or_default();
    [
        part(0, 8),
        part(8, 12),
        part(12, 16),
        part(16, 20),
        part(20, 32),
    ]
    .join("-")
}

/// Trace id and flags of a valid `traceparent` (W3C Trace Context section 3.2).
fn parent(headers: &HeaderMap) -> Option<(String, String)> {
    let mut values = headers.get_all("traceparent").iter();
    let value = values
        .next()
        .filter(|_| values.next().is_none())?
        .to_str()
        .ok()?;
    let mut fields = value.splitn(5, '-');
    let (version, trace) = (fields.next()?, fields.next()?);
    let (span, flags, rest) = (fields.next()?, fields.next()?, fields.next());
    let hex = |text: &str, length: usize| {
        text.len() == length
            && text
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    let known = hex(version, 2) && version != "ff" && (version != "00" || rest.is_none());
    let nonzero = |text: &str| text.bytes().any(|byte| byte != b'0');
    let valid = known && hex(trace, 32) && hex(span, 16) && hex(flags, 2);
    (valid && nonzero(trace) && nonzero(span)).then(|| (trace.to_owned(), flags.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_valid_trace_goes_on() {
        let parent_of = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("traceparent", value.parse().unwrap());
            parent(&headers).map(|(trace, _)| trace)
        };
        let trace = "0af7651916cd43dd8448eb211c80319c";
        let good = format!("00-{trace}-b7ad6b7169203331-01");
        assert_eq!(parent_of(&good).as_deref(), Some(trace));
        assert_eq!(
            parent_of(&format!("01-{trace}-b7ad6b7169203331-01-x")).as_deref(),
            Some(trace)
        );
        for bad in [
            format!("{good}-x"),
            good.to_uppercase(),
            format!("ff-{trace}-b7ad6b7169203331-01"),
            format!("00-{}-b7ad6b7169203331-01", "0".repeat(32)),
            format!("00-{trace}-{}-01", "0".repeat(16)),
            "00-1-2-3".to_owned(),
        ] {
            assert_eq!(parent_of(&bad), None, "{bad}");
        }
    }

    #[test]
    fn a_request_id_is_a_random_uuid() {
        let id = uuid(random().unwrap());
        assert_eq!(id.len(), 36);
        assert_eq!(id.as_bytes()[14], b'4');
        assert_ne!(id, uuid(random().unwrap()));
    }
}
