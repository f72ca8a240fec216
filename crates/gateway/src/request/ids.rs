use crate::connected::Connected;
use crate::observe::Journey;
use crate::observe::Observer;
use crate::observe::Trace;
use aws_lc_rs::rand;
use countersign_core::snapshot::DoorKind;
use http::HeaderMap;
use http::HeaderName;
use std::sync::Arc;

/// W3C Trace Context section 3.2.
pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The system has no random bytes to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system has no randomness")]
pub(crate) struct NoRandomness;

/// Names of one request, for records, upstreams and the caller.
#[derive(Debug)]
pub(crate) struct Ids {
    /// A random UUID (RFC 9562 version 4), never the caller's.
    pub(crate) request: String,
    /// W3C trace id.
    pub(crate) trace: String,
    /// What the next hop gets as `traceparent`.
    pub(crate) traceparent: String,
    /// Where its time goes.
    pub(crate) journey: Journey,
    /// Its place in its trace, if it is traced.
    spans: Option<Spans>,
    /// Whether the caller's trace goes on, and so its `tracestate`.
    pub(crate) continued: bool,
    /// The id of our assertion for the next hop.
    pub(crate) assertion: [u8; 16],
}

/// Spans of a traced request.
#[derive(Debug)]
struct Spans {
    /// The request here.
    ours: String,
    /// The call of the upstream.
    call: String,
    /// The caller's.
    parent: Option<String>,
}

/// What a valid `traceparent` says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Parent {
    trace: String,
    span: String,
    flags: String,
}

impl Ids {
    /// New ids. A workload's trace goes on; a browser's is started here, where trust starts.
    ///
    /// # Errors
    /// [`NoRandomness`].
    pub(crate) fn of(
        connected: &Connected,
        headers: &HeaderMap,
        observer: Option<Arc<dyn Observer>>,
    ) -> Result<Self, NoRandomness> {
        let parent = match connected.kind {
            DoorKind::Mesh => parent(headers),
            // Traces begin where trust begins: another organisation's are its own.
            DoorKind::Browser | DoorKind::Local | DoorKind::Partner => None,
        };
        let continued = parent.is_some();
        // In one go: asking for randomness costs more than the bytes do.
        let drawn = Drawn::new()?;
        let (trace, flags) = match &parent {
            Some(parent) => (parent.trace.clone(), parent.flags.as_str()),
            None => (hex(drawn.trace), "00"),
        };
        let journey = Journey::new(observer);
        let sampled = parent.as_ref().map(Parent::is_sampled);
        let sampled = journey.observer().and_then(|it| it.sample(&trace, sampled));
        let flags = match sampled {
            None => flags,
            Some(true) => "01",
            Some(false) => "00",
        };
        let call = hex(drawn.call);
        let traceparent = ["00", &trace, &call, flags].join("-");
        let spans = if sampled == Some(true) {
            Some(Spans {
                ours: hex(drawn.ours),
                call,
                parent: parent.map(|it| it.span),
            })
        } else {
            None
        };
        Ok(Self {
            request: uuid(drawn.request),
            traceparent,
            journey,
            spans,
            trace,
            continued,
            assertion: drawn.assertion,
        })
    }

    /// Its place in its trace, if it is traced.
    pub(crate) fn place(&self) -> Option<Trace<'_>> {
        self.spans.as_ref().map(|spans| Trace {
            id: &self.trace,
            span: &spans.ours,
            parent: spans.parent.as_deref(),
            call: &spans.call,
        })
    }
}

impl Parent {
    /// Whether the caller has its own part traced (section 3.2.2.5.1).
    fn is_sampled(&self) -> bool {
        u8::from_str_radix(&self.flags, 16).is_ok_and(|flags| flags & 1 == 1)
    }
}

/// Random bytes of one request.
struct Drawn {
    assertion: [u8; 16],
    call: [u8; 8],
    ours: [u8; 8],
    request: [u8; 16],
    trace: [u8; 16],
}

impl Drawn {
    fn new() -> Result<Self, NoRandomness> {
        let bytes = random::<64>()?;
        let mut rest = bytes.as_slice();
        Ok(Self {
            assertion: next(&mut rest)?,
            call: next(&mut rest)?,
            ours: next(&mut rest)?,
            request: next(&mut rest)?,
            trace: next(&mut rest)?,
        })
    }
}

fn next<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], NoRandomness> {
    let (first, behind) = rest.split_first_chunk().ok_or(NoRandomness)?;
    *rest = behind;
    Ok(*first)
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

/// Lower-case hex digits; the crate's own function writes one character at a time.
pub(crate) fn hex<const N: usize>(bytes: [u8; N]) -> String {
    let mut text = vec![0; 2 * N];
    // As long as it has to be, and of ASCII.
    let written = hex::encode_to_slice(bytes, &mut text).is_ok();
    let text = String::from_utf8(text).ok();
    text.filter(|_| written).unwrap_or_default()
}

fn uuid(mut bytes: [u8; 16]) -> String {
    let [_, _, _, _, _, _, version, _, variant, ..] = &mut bytes;
    *version = (*version & 0x0f) | 0x40;
    *variant = (*variant & 0x3f) | 0x80;
    let text = hex(bytes);
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

/// What a valid `traceparent` says (W3C Trace Context section 3.2).
fn parent(headers: &HeaderMap) -> Option<Parent> {
    let mut values = headers.get_all(TRACEPARENT).iter();
    let value = values
        .next()
        .filter(|_| values.next().is_none())?
        .to_str()
        .ok()?;
    let mut fields = value.splitn(5, '-');
    let (version, trace) = (fields.next()?, fields.next()?);
    let (span, flags, rest) = (fields.next()?, fields.next()?, fields.next());
    let digits = |text: &str, length: usize| {
        text.len() == length
            && text
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    let known = digits(version, 2) && version != "ff" && (version != "00" || rest.is_none());
    let nonzero = |text: &str| text.bytes().any(|byte| byte != b'0');
    let valid = known && digits(trace, 32) && digits(span, 16) && digits(flags, 2);
    (valid && nonzero(trace) && nonzero(span)).then(|| Parent {
        trace: trace.to_owned(),
        span: span.to_owned(),
        flags: flags.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_valid_trace_goes_on() {
        let parent_of = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("traceparent", value.parse().unwrap());
            parent(&headers).map(|it| it.trace)
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
