//! Counts the messages that a stream consists of, as its bytes go by.

use memchr::memchr2_iter;

/// Counts messages of one direction.
#[derive(Debug)]
pub(crate) enum Messages {
    /// Server-sent events.
    Events(Events),
    /// gRPC.
    Grpc(Prefixed),
}

/// Events end with an empty line ("Server-sent events", Interpreting an event stream).
#[derive(Debug, Default)]
pub(crate) struct Events {
    /// Whether the line so far has a byte.
    line: bool,
    /// Whether the event so far has a line.
    event: bool,
    /// Whether the last byte was a carriage return, whose line feed ends no further line.
    carriage: bool,
}

/// Messages behind a flag and a length of four bytes ("gRPC over HTTP2", Length-Prefixed-Message).
#[derive(Debug, Default)]
pub(crate) struct Prefixed {
    head: usize,
    length: u32,
    payload: u64,
}

/// Flag and length.
const HEAD: usize = 5;

impl Messages {
    /// Takes the next bytes; how many messages ended in them.
    pub(crate) fn pass(&mut self, bytes: &[u8]) -> u64 {
        match self {
            Self::Events(events) => events.pass(bytes),
            Self::Grpc(prefixed) => prefixed.pass(bytes),
        }
    }
}

impl Events {
    fn pass(&mut self, bytes: &[u8]) -> u64 {
        let (mut ended, mut from) = (0, 0);
        for at in memchr2_iter(b'\r', b'\n', bytes) {
            let second = at == from && self.carriage && bytes.get(at) == Some(&b'\n');
            self.line |= at > from;
            from = at + 1;
            self.carriage = bytes.get(at) == Some(&b'\r');
            if second {
                continue;
            }
            if self.line {
                self.event = true;
            } else if std::mem::take(&mut self.event) {
                ended += 1;
            }
            self.line = false;
        }
        if from < bytes.len() {
            (self.line, self.carriage) = (true, false);
        }
        ended
    }
}

impl Prefixed {
    fn pass(&mut self, mut bytes: &[u8]) -> u64 {
        let mut ended = 0;
        while let Some((first, rest)) = bytes.split_first() {
            if self.payload > 0 {
                let taken = self.payload.min(bytes.len() as u64);
                self.payload -= taken;
                let taken = usize::try_from(taken).unwrap_or(bytes.len());
                bytes = bytes.get(taken..).unwrap_or_default();
                ended += u64::from(self.payload == 0);
                continue;
            }
            bytes = rest;
            self.head += 1;
            if self.head > 1 {
                self.length = self.length << 8 | u32::from(*first);
            }
            if self.head == HEAD {
                self.payload = u64::from(self.length);
                ended += u64::from(self.payload == 0);
                (self.head, self.length) = (0, 0);
            }
        }
        ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However the bytes are cut into chunks.
    fn counted(fresh: impl Fn() -> Messages, bytes: &[u8]) -> u64 {
        let counts = [1, 2, 3, bytes.len()].map(|size| {
            let mut messages = fresh();
            let chunks = bytes.chunks(size);
            chunks.map(|chunk| messages.pass(chunk)).sum::<u64>()
        });
        assert!(counts.iter().all(|it| *it == counts[0]), "{counts:?}");
        counts[0]
    }

    #[test]
    fn events_end_with_an_empty_line() {
        let events = |text: &str| counted(|| Messages::Events(Events::default()), text.as_bytes());
        assert_eq!(events("data: 1\n\ndata: 2\ndata: 3\n\n"), 2);
        assert_eq!(events("data: 1\r\n\r\ndata: 2\r\rdata"), 2);
        assert_eq!(events("\n\n\ndata: 1\n\n\n\n"), 1);
        assert_eq!(events("data: 1\r\n"), 0);
    }

    #[test]
    fn a_call_has_its_messages() {
        let calls = |bytes: &[u8]| counted(|| Messages::Grpc(Prefixed::default()), bytes);
        assert_eq!(calls(b"\0\0\0\0\x02hi\0\0\0\0\0\x01\0\0\0\x01x"), 3);
        assert_eq!(calls(b"\0\0\0\0\x02h"), 0);
        assert_eq!(calls(&[&b"\0\0\0\x01\0"[..], &[0; 256]].concat()), 1);
    }
}
