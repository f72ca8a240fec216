//! HTTP/1.1 messages whose ends can be read in one way only (RFC 9112 sections 2, 5, 6, 7 and 11.2).
//!
//! Two parsers that disagree on where a message ends are how one caller's bytes become another
//! caller's request. The HTTP library behind this accepts what the standard lets a recipient repair;
//! here nothing is repaired: [`Guarded`] stands between a connection and the library, lets bytes
//! through as long as there is one way to read them, and otherwise puts a request of its own in
//! place of the faulty head, so that it is refused and recorded like any other.
//!
//! HTTP/2 frames its messages in one way only, and its library is strict about them. What it lacks
//! is a bound on frames that carry nothing: [`Metered`] counts them.

mod chunked;
mod frames;
mod guarded;
mod head;

pub use frames::BYTES_PER_FRAME;
pub use frames::FRAMES_BURST;
pub use frames::FRAMES_PER_SECOND;
pub use frames::Flood;
pub use frames::Floods;
pub use frames::Metered;
pub use frames::is_flood;
pub use guarded::Guard;
pub use guarded::Guarded;

use chunked::Chunked;
use countersign_core::hop::RequestFault;
use countersign_core::vocabulary::Code;
use head::Body;
use head::Head;

/// The most bytes of a request line (RFC 9112 section 3 asks for at least 8,000).
pub const MOST_LINE: usize = 8 * 1024;

/// Why a message has no single reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FramingFault {
    /// A carriage return or line feed alone (RFC 9112 section 2.2).
    #[error("a line does not end in CR LF")]
    LineEnd,
    /// Not `method SP target SP HTTP/1.1` (RFC 9112 section 3).
    #[error("the request line is not `method target HTTP/1.1`")]
    RequestLine,
    /// A field without a name, with blanks around it, or with another character than a token's (RFC
    /// 9112 section 5.1).
    #[error("a field name is empty or has characters that no name has")]
    FieldName,
    /// A control character in a field's value (RFC 9110 section 5.5).
    #[error("a field value has a control character")]
    FieldValue,
    /// A field continued on the next line (RFC 9112 section 5.2).
    #[error("a field goes on in the next line")]
    Folded,
    /// The head has more bytes than the listener takes.
    #[error("the head of the request is too large")]
    HeadTooLarge,
    /// More fields than are taken.
    #[error("the request has too many fields")]
    TooManyFields,
    /// `Transfer-Encoding` and `Content-Length`, of which each says where the body ends (RFC 9112
    /// section 6.3).
    #[error("both `transfer-encoding` and `content-length`")]
    TwoLengths,
    /// `Content-Length` is not one plain number (RFC 9110 section 8.6).
    #[error("`content-length` is not one number")]
    Length,
    /// `Transfer-Encoding` is not `chunked` alone (RFC 9112 section 6.1).
    #[error("`transfer-encoding` is not `chunked`")]
    Coding,
    /// A chunk's size, extension or end breaks the grammar (RFC 9112 section 7.1).
    #[error("a chunk of the body is malformed")]
    Chunk,
    /// A request for another protocol with a body, behind which nobody could say what the bytes are.
    #[error("a request for another protocol has a body")]
    AskedWithBody,
    /// A trailer field that changes how the message is read (RFC 9110 section 6.5.1).
    #[error("a trailer field that belongs in the head")]
    Trailer,
}

impl FramingFault {
    /// The refusal that it makes of a request.
    #[must_use]
    pub fn request_fault(self) -> RequestFault {
        let code = if self.is_size() {
            Code::HEAD_TOO_LARGE
        } else {
            Code::MESSAGE_AMBIGUOUS
        };
        RequestFault {
            code,
            detail: self.to_string(),
        }
    }

    /// Whether the request was only too large, and not ambiguous.
    #[must_use]
    pub const fn is_size(self) -> bool {
        matches!(self, Self::HeadTooLarge | Self::TooManyFields)
    }
}

/// What a head may take up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Bytes, the request line among them.
    pub bytes: usize,
    /// Fields.
    pub fields: usize,
}

/// Where in a connection's messages the next byte belongs.
#[derive(Debug)]
pub struct Framing {
    limits: HeadLimits,
    /// What the lines of the head say so far.
    head: Head,
    /// Their bytes.
    looked: usize,
    /// Bytes behind them that are known to end no line, so that each is looked at once.
    searched: usize,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Head,
    Length(u64),
    Chunked(Chunked),
    /// A request that asked for another protocol waits for its answer; what follows may not be
    /// HTTP.
    Asked,
    /// Another protocol.
    Opaque,
}

impl Framing {
    /// At the beginning of a connection.
    #[must_use]
    pub const fn new(limits: HeadLimits) -> Self {
        Self {
            limits,
            head: Head::new(),
            looked: 0,
            searched: 0,
            state: State::Head,
        }
    }

    /// How many of the bytes in front may be handed on; those behind need more bytes first, or the
    /// answer to a request for another protocol.
    ///
    /// # Errors
    /// [`FramingFault`], with how many bytes of earlier messages may still be handed on.
    pub fn pass(&mut self, bytes: &[u8]) -> Result<usize, (usize, FramingFault)> {
        let mut at = 0;
        loop {
            let rest = bytes.get(at..).unwrap_or_default();
            match self.step(rest) {
                Ok(0) => return Ok(at),
                Ok(passed) => at += passed,
                Err(fault) => return Err((at, fault)),
            }
        }
    }

    /// Whether the next byte belongs to the head of a request.
    #[must_use]
    pub const fn in_head(&self) -> bool {
        matches!(self.state, State::Head)
    }

    /// Whether a request for another protocol waits for its answer.
    const fn is_asked(&self) -> bool {
        matches!(self.state, State::Asked)
    }

    /// How many bytes from here on have no structure, if the next one has none.
    const fn plain(&self) -> Option<u64> {
        match self.state {
            State::Opaque => Some(u64::MAX),
            State::Length(left) => Some(left),
            State::Chunked(Chunked::Data(left)) => Some(left),
            _ => None,
        }
    }

    /// That many of them were handed on.
    fn took(&mut self, bytes: u64) {
        self.state = match self.state {
            State::Length(left) if left > bytes => State::Length(left - bytes),
            State::Length(_) => State::Head,
            State::Chunked(Chunked::Data(left)) if left > bytes => {
                State::Chunked(Chunked::Data(left - bytes))
            }
            State::Chunked(Chunked::Data(_)) => State::Chunked(Chunked::DataEnd),
            state => state,
        };
    }

    /// From here on it is another protocol: the answer to the last request said so.
    pub const fn open(&mut self) {
        self.state = State::Opaque;
    }

    /// One message part; none if it is not whole.
    fn step(&mut self, bytes: &[u8]) -> Result<usize, FramingFault> {
        match self.state {
            State::Head => self.head(bytes),
            State::Length(left) => {
                let passed = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                let left = left - passed as u64;
                self.state = if left == 0 {
                    State::Head
                } else {
                    State::Length(left)
                };
                Ok(passed)
            }
            State::Chunked(chunked) => {
                let (passed, next) = chunked.step(bytes)?;
                self.state = next.map_or(State::Head, State::Chunked);
                Ok(passed)
            }
            State::Asked => Ok(0),
            State::Opaque => Ok(bytes.len()),
        }
    }

    /// The lines of a head are looked at once, as they come, so that one that can't be right is not
    /// waited for.
    fn head(&mut self, bytes: &[u8]) -> Result<usize, FramingFault> {
        loop {
            let from = self.looked + self.searched;
            let rest = bytes.get(from..).unwrap_or_default();
            let line = line(rest)?;
            if from + line.unwrap_or(rest.len()) > self.limits.bytes {
                return Err(FramingFault::HeadTooLarge);
            }
            let Some(length) = line.map(|end| self.searched + end) else {
                // The last byte may be half of a line's end.
                self.searched += rest.len().saturating_sub(1);
                return Ok(0);
            };
            self.searched = 0;
            let end = self.looked + length;
            // RFC 9112 section 2.2: one empty line in front of a request is let pass.
            match (self.looked, length) {
                (0, 2) => {}
                (3.., 2) => return self.end_of_head(end),
                _ => {
                    let line = bytes.get(self.looked..end - 2).unwrap_or_default();
                    self.head.line(line, self.limits.fields);
                }
            }
            self.looked = end;
        }
    }

    fn end_of_head(&mut self, end: usize) -> Result<usize, FramingFault> {
        let meaning = self.head.end()?;
        self.head = Head::new();
        self.looked = 0;
        self.state = match meaning.body {
            _ if meaning.asks => State::Asked,
            Body::None | Body::Length(0) => State::Head,
            Body::Length(bytes) => State::Length(bytes),
            Body::Chunked => State::Chunked(Chunked::default()),
        };
        Ok(end)
    }
}

/// The length of the first line, with its end, if it is whole.
fn line(bytes: &[u8]) -> Result<Option<usize>, FramingFault> {
    let Some(at) = memchr::memchr2(b'\r', b'\n', bytes) else {
        return Ok(None);
    };
    match bytes.get(at..at + 2) {
        Some(b"\r\n") => Ok(Some(at + 2)),
        None if bytes.get(at) == Some(&b'\r') => Ok(None),
        _ => Err(FramingFault::LineEnd),
    }
}

#[cfg(test)]
mod tests;
