//! The head of a request.

use super::FramingFault;
use super::MOST_LINE;

/// What a head says of its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Meaning {
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

/// A head, as far as its lines have come.
#[derive(Debug)]
pub(super) struct Head {
    /// What was wrong first. It is told at the end: a line that does not end goes before it.
    fault: Option<FramingFault>,
    request: Option<Request>,
    fields: usize,
    coded: bool,
    length: Option<u64>,
    upgrade: bool,
}

impl Head {
    pub(super) const fn new() -> Self {
        Self {
            fault: None,
            request: None,
            fields: 0,
            coded: false,
            length: None,
            upgrade: false,
        }
    }

    /// The next line, without its end: the request line, and then at most so many fields.
    pub(super) fn line(&mut self, line: &[u8], most: usize) {
        if self.fault.is_none() {
            self.fault = self.read(line, most).err();
        }
    }

    /// What it says, once all of its lines have come.
    pub(super) fn end(&self) -> Result<Meaning, FramingFault> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let request = self.request.ok_or(FramingFault::RequestLine)?;
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
        Ok(Meaning { asks, body })
    }

    fn read(&mut self, line: &[u8], most: usize) -> Result<(), FramingFault> {
        if self.request.is_none() {
            self.request = Some(request_line(line)?);
            return Ok(());
        }
        self.fields += 1;
        if self.fields > most {
            return Err(FramingFault::TooManyFields);
        }
        let (name, value) = field(line)?;
        self.note(name, value)
    }

    fn note(&mut self, name: &[u8], value: &[u8]) -> Result<(), FramingFault> {
        if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if self.coded || !value.trim_ascii().eq_ignore_ascii_case(b"chunked") {
                return Err(FramingFault::Coding);
            }
            self.coded = true;
        } else if name.eq_ignore_ascii_case(b"content-length") {
            if self.length.is_some() {
                return Err(FramingFault::Length);
            }
            self.length = Some(number(value.trim_ascii()).ok_or(FramingFault::Length)?);
        } else if name.eq_ignore_ascii_case(b"upgrade") {
            self.upgrade = true;
        }
        Ok(())
    }
}

/// `name: value`, with the blanks around the value.
pub(super) fn field(line: &[u8]) -> Result<(&[u8], &[u8]), FramingFault> {
    if let [b' ' | b'\t', ..] = line {
        return Err(FramingFault::Folded);
    }
    // A colon is no character of a name, so the first one is where the name has to end.
    match line.split_at_checked(token(line)) {
        Some((name, [b':', value @ ..])) if !name.is_empty() => {
            if has_control(value) {
                return Err(FramingFault::FieldValue);
            }
            Ok((name, value))
        }
        _ => Err(FramingFault::FieldName),
    }
}

#[derive(Clone, Copy, Debug)]
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
    let (rest, old) = match line.strip_suffix(b" HTTP/1.1") {
        Some(rest) => (rest, false),
        None => match line.strip_suffix(b" HTTP/1.0") {
            Some(rest) => (rest, true),
            None => return Err(FramingFault::RequestLine),
        },
    };
    match rest.split_at_checked(token(rest)) {
        Some((method, [b' ', target @ ..]))
            if (1..=32).contains(&method.len()) && is_target(method, target) =>
        {
            Ok(Request {
                connect: method == b"CONNECT",
                old,
            })
        }
        _ => Err(FramingFault::RequestLine),
    }
}

/// RFC 9112 section 3.2: of the form that the method has, in characters that are allowed there.
fn is_target(method: &[u8], target: &[u8]) -> bool {
    let kinds = target
        .iter()
        .fold(PATH | VISIBLE, |all, byte| all & kind(*byte));
    if kinds & PATH != 0 && target.starts_with(b"/") && method != b"CONNECT" {
        return true;
    }
    kinds & VISIBLE != 0 && form_fits(method, target) && http::Uri::try_from(target).is_ok()
}

fn form_fits(method: &[u8], target: &[u8]) -> bool {
    if method == b"CONNECT" {
        return !target.contains(&b'/');
    }
    let absolute = [&b"http://"[..], b"https://"];
    target.starts_with(b"/")
        || (target == b"*" && method == b"OPTIONS")
        || absolute.iter().any(|scheme| target.starts_with(scheme))
}

/// Digits only: no sign, no list, no blank.
fn number(text: &[u8]) -> Option<u64> {
    let fine = !text.is_empty() && text.len() <= 18 && text.iter().all(u8::is_ascii_digit);
    fine.then(|| {
        text.iter()
            .fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'))
    })
}

/// How many characters of a token are in front.
fn token(text: &[u8]) -> usize {
    text.iter()
        .position(|byte| kind(*byte) & TOKEN == 0)
        .unwrap_or(text.len())
}

/// Whether there is a control character other than a tab (RFC 9110 section 5.5).
///
/// Most bytes of a head are values, so they are looked at in blocks, of the largest size that fits.
fn has_control(value: &[u8]) -> bool {
    blocks::<32>(value)
        .or_else(|| blocks::<16>(value))
        .or_else(|| blocks::<8>(value))
        .unwrap_or_else(|| any_control(value))
}

/// The same by blocks; none if there is not one whole. The last overlaps with the one before it.
#[inline]
fn blocks<const SIZE: usize>(value: &[u8]) -> Option<bool> {
    let last = value.last_chunk::<SIZE>()?;
    let (blocks, _) = value.as_chunks::<SIZE>();
    Some(any_control(last) || blocks.iter().any(|block| any_control(block)))
}

/// Without a branch for each byte, so that the compiler makes it one look at all of a block.
#[inline]
fn any_control(bytes: &[u8]) -> bool {
    bytes.iter().fold(false, |found, byte| {
        found | (byte.is_ascii_control() & (*byte != b'\t'))
    })
}

/// Of a token (RFC 9110 section 5.6.2).
const TOKEN: u8 = 1;
/// Of a path or query (RFC 3986 sections 3.3 and 3.4): what reads the target behind this takes any
/// of them anywhere behind a slash.
const PATH: u8 = 2;
/// Printed, and not the beginning of a fragment. That is never sent (RFC 9112 section 3.2), and
/// what reads the target behind this would cut it off without a word.
const VISIBLE: u8 = 4;

#[inline]
fn kind(byte: u8) -> u8 {
    KINDS.get(usize::from(byte)).copied().unwrap_or_default()
}

static KINDS: [u8; 256] = {
    let mut kinds = [0; 256];
    let mut rest: &mut [u8] = &mut kinds;
    let mut byte = 0_u8;
    while let Some((first, others)) = rest.split_first_mut() {
        *first = kind_of(byte);
        rest = others;
        byte = byte.wrapping_add(1);
    }
    kinds
};

const fn kind_of(byte: u8) -> u8 {
    let alphanumeric = byte.is_ascii_alphanumeric();
    let mut kind = 0;
    if alphanumeric || contains(b"!#$%&'*+-.^_`|~", byte) {
        kind |= TOKEN;
    }
    if alphanumeric || contains(b"-._~%!$&'()*+,;=:@/?", byte) {
        kind |= PATH;
    }
    if byte.is_ascii_graphic() && byte != b'#' {
        kind |= VISIBLE;
    }
    kind
}

const fn contains(mut set: &[u8], byte: u8) -> bool {
    while let Some((first, others)) = set.split_first() {
        if *first == byte {
            return true;
        }
        set = others;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_as_a_path_is_one_to_the_library() {
        for byte in 0..=u8::MAX {
            let path = [b'/', byte, b'?', byte, b'/', byte];
            let accepted = http::Uri::try_from(&path[..]).is_ok();
            assert!(accepted || kind(byte) & PATH == 0, "{byte:#x}");
            assert!(kind(byte) & VISIBLE != 0 || kind(byte) & PATH == 0);
        }
    }

    #[test]
    fn a_control_character_is_seen_wherever_it_is() {
        for length in 1..70 {
            for at in 0..length {
                for byte in 0..=u8::MAX {
                    let mut value = vec![b'x'; length];
                    value[at] = byte;
                    let wanted = matches!(byte, 0..=8 | 10..=31 | 127);
                    assert_eq!(has_control(&value), wanted, "{byte:#x} at {at} of {length}");
                }
            }
        }
    }

    #[test]
    fn names_have_the_characters_of_tokens() {
        for byte in 0..=u8::MAX {
            let wanted = byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
            assert_eq!(field(&[byte, b':']).is_ok(), wanted, "{byte:#x}");
        }
    }
}
