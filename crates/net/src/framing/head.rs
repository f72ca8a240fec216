//! The head of a request.

use super::FramingFault;
use super::HeadLimits;
use super::MOST_LINE;

/// What a head says of its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Whether it asks for another protocol on this connection.
    pub(super) asks: bool,
    pub(super) body: Body,
}

/// Where the body of a message ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    None,
    Length(u64),
    Chunked,
}

/// Reads a head, the empty line at its end among the bytes; each line ends in CR LF.
pub(super) fn read(head: &[u8], limits: HeadLimits) -> Result<Head, FramingFault> {
    let text = head.strip_prefix(b"\r\n").unwrap_or(head);
    let mut lines = text.split(|byte| *byte == b'\n');
    let mut lines = lines
        .by_ref()
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let request = request_line(lines.next().unwrap_or_default())?;
    let mut fields = Fields::default();
    let mut count = 0;
    for line in lines {
        if line.is_empty() {
            break;
        }
        count += 1;
        if count > limits.fields {
            return Err(FramingFault::TooManyFields);
        }
        let (name, value) = field(line)?;
        fields.note(name, value)?;
    }
    fields.head(request)
}

/// `name: value`, without the blanks around the value.
pub(super) fn field(line: &[u8]) -> Result<(&[u8], &[u8]), FramingFault> {
    if line.starts_with(b" ") || line.starts_with(b"\t") {
        return Err(FramingFault::Folded);
    }
    let colon = line.iter().position(|byte| *byte == b':');
    let (name, value) = colon
        .and_then(|at| Some((line.get(..at)?, line.get(at + 1..)?)))
        .ok_or(FramingFault::FieldName)?;
    if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
        return Err(FramingFault::FieldName);
    }
    if value
        .iter()
        .any(|byte| byte.is_ascii_control() && *byte != b'\t')
    {
        return Err(FramingFault::FieldValue);
    }
    Ok((name, value.trim_ascii()))
}

/// RFC 9110 section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[derive(Clone, Copy)]
struct Request {
    connect: bool,
    /// HTTP/1.0.
    old: bool,
}

/// RFC 9112 section 3: single blanks, no others.
fn request_line(line: &[u8]) -> Result<Request, FramingFault> {
    if line.len() > MOST_LINE {
        return Err(FramingFault::HeadTooLarge);
    }
    let mut parts = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(FramingFault::RequestLine);
    };
    // A fragment is never sent (RFC 9112 section 3.2); what reads the target behind this would cut
    // it off without a word.
    let visible = |byte: &u8| byte.is_ascii_graphic() && *byte != b'#';
    let fine = !method.is_empty()
        && method.len() <= 32
        && method.iter().all(|byte| is_token(*byte))
        && !target.is_empty()
        && target.iter().all(visible)
        && form_fits(method, target)
        && http::Uri::try_from(target).is_ok();
    match version {
        b"HTTP/1.1" | b"HTTP/1.0" if fine => Ok(Request {
            connect: method == b"CONNECT",
            old: version == b"HTTP/1.0",
        }),
        _ => Err(FramingFault::RequestLine),
    }
}

/// RFC 9112 section 3.2: the form of the target that the method has.
fn form_fits(method: &[u8], target: &[u8]) -> bool {
    if method == b"CONNECT" {
        return !target.contains(&b'/');
    }
    let absolute = [&b"http://"[..], b"https://"];
    target.starts_with(b"/")
        || (target == b"*" && method == b"OPTIONS")
        || absolute.iter().any(|scheme| target.starts_with(scheme))
}

#[derive(Default)]
struct Fields {
    coded: bool,
    length: Option<u64>,
    upgrade: bool,
}

impl Fields {
    fn note(&mut self, name: &[u8], value: &[u8]) -> Result<(), FramingFault> {
        if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if self.coded || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(FramingFault::Coding);
            }
            self.coded = true;
        } else if name.eq_ignore_ascii_case(b"content-length") {
            if self.length.is_some() {
                return Err(FramingFault::Length);
            }
            self.length = Some(number(value).ok_or(FramingFault::Length)?);
        } else if name.eq_ignore_ascii_case(b"upgrade") {
            self.upgrade = true;
        }
        Ok(())
    }

    fn head(&self, request: Request) -> Result<Head, FramingFault> {
        let body = match (self.coded, self.length) {
            (true, Some(_)) => return Err(FramingFault::TwoLengths),
            // RFC 9112 section 6.1: an HTTP/1.0 peer can't mean it.
            (true, None) if request.old => return Err(FramingFault::Coding),
            (true, None) => Body::Chunked,
            (false, Some(bytes)) => Body::Length(bytes),
            (false, None) => Body::None,
        };
        let asks = request.connect || self.upgrade;
        if asks && !matches!(body, Body::None | Body::Length(0)) {
            return Err(FramingFault::AskedWithBody);
        }
        Ok(Head { asks, body })
    }
}

/// Digits only: no sign, no list, no blank.
fn number(text: &[u8]) -> Option<u64> {
    let fine = !text.is_empty() && text.len() <= 18 && text.iter().all(u8::is_ascii_digit);
    fine.then(|| {
        text.iter()
            .fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'))
    })
}
