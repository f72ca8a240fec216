//! The chunks of a body.

use super::FramingFault;
use super::head::field;
use super::line;

/// The most digits of a chunk's size.
const MOST_DIGITS: usize = 15;
/// The most bytes of a chunk's line, extensions and end among them. Extensions mean nothing to
/// anybody (RFC 9112 section 7.1.1).
const MOST_LINE: usize = 128;
/// The most bytes of all trailer fields.
const MOST_TRAILERS: usize = 8 * 1024;

/// Trailer fields that would frame, route, authenticate or decode the message after the fact (RFC
/// 9110 section 6.5.1).
const NO_TRAILERS: [&str; 20] = [
    "authorization",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "cookie",
    "expect",
    "host",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "range",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "www-authenticate",
];

/// Where in a chunked body the next byte belongs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Chunked {
    #[default]
    Size,
    Data(u64),
    /// The end of the line behind the data.
    DataEnd,
    /// Trailer fields, and how many bytes they had so far.
    Trailers(usize),
}

impl Chunked {
    /// How many bytes of this part there are, and what comes next: none behind the whole body.
    pub(super) fn step(self, bytes: &[u8]) -> Result<(usize, Option<Self>), FramingFault> {
        match self {
            Self::Size => size(bytes),
            Self::Data(left) => {
                let passed = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                let left = left - passed as u64;
                let next = if left == 0 {
                    Self::DataEnd
                } else {
                    Self::Data(left)
                };
                Ok((passed, Some(next)))
            }
            Self::DataEnd => match bytes {
                [b'\r', b'\n', ..] => Ok((2, Some(Self::Size))),
                [] | [b'\r'] => Ok((0, Some(self))),
                _ => Err(FramingFault::Chunk),
            },
            Self::Trailers(before) => trailer(bytes, before),
        }
    }
}

fn size(bytes: &[u8]) -> Result<(usize, Option<Chunked>), FramingFault> {
    let end = line(bytes).map_err(|_| FramingFault::Chunk)?;
    if end.unwrap_or(bytes.len()) > MOST_LINE {
        return Err(FramingFault::Chunk);
    }
    let Some(end) = end else {
        return Ok((0, Some(Chunked::Size)));
    };
    let text = bytes.get(..end - 2).unwrap_or_default();
    let digits = text
        .iter()
        .take_while(|byte| byte.is_ascii_hexdigit())
        .count();
    let (number, extension) = text.split_at_checked(digits).ok_or(FramingFault::Chunk)?;
    // Nothing but an extension follows the digits; blanks were taken for digits before.
    let plain = extension.is_empty() || extension.starts_with(b";");
    let visible = |byte: &u8| byte.is_ascii_graphic() || matches!(byte, b' ' | b'\t');
    if digits == 0 || digits > MOST_DIGITS || !plain || !extension.iter().all(visible) {
        return Err(FramingFault::Chunk);
    }
    let number = std::str::from_utf8(number).map_err(|_| FramingFault::Chunk)?;
    let next = match u64::from_str_radix(number, 16) {
        Ok(0) => Chunked::Trailers(0),
        Ok(size) => Chunked::Data(size),
        Err(_) => return Err(FramingFault::Chunk),
    };
    Ok((end, Some(next)))
}

fn trailer(bytes: &[u8], before: usize) -> Result<(usize, Option<Chunked>), FramingFault> {
    let end = line(bytes)?;
    if before + end.unwrap_or(bytes.len()) > MOST_TRAILERS {
        return Err(FramingFault::Trailer);
    }
    match end {
        None => Ok((0, Some(Chunked::Trailers(before)))),
        Some(2) => Ok((2, None)),
        Some(end) => {
            let (name, _) = field(bytes.get(..end - 2).unwrap_or_default())?;
            let steers = NO_TRAILERS
                .iter()
                .any(|it| name.eq_ignore_ascii_case(it.as_bytes()));
            if steers {
                return Err(FramingFault::Trailer);
            }
            Ok((end, Some(Chunked::Trailers(before + end))))
        }
    }
}
