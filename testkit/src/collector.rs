//! A collector of traces on loopback, and a reader of what it is sent that knows nothing of the
//! sender's message types.

#![expect(
    clippy::unwrap_used,
    reason = "a collector that can't be set up has failed the test"
)]

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Read as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::sync::Arc;

/// Takes in whatever is posted.
#[derive(Clone, Debug)]
pub struct Collector {
    address: SocketAddr,
    taken: Arc<Mutex<Vec<Taken>>>,
}

/// One request to the collector.
#[derive(Clone, Debug)]
pub struct Taken {
    /// Its first line.
    pub line: String,
    /// Its header fields, names in lower case.
    pub fields: BTreeMap<String, String>,
    /// Its body.
    pub body: Vec<u8>,
}

/// One field of a Protocol Buffers message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Field {
    /// Wire types 0, 1 and 5: any number.
    Number(u64),
    /// Wire type 2: text, bytes or a message.
    Bytes(Vec<u8>),
}

/// The fields of a message by their numbers, in order of appearance.
pub type Fields = BTreeMap<u64, Vec<Field>>;

impl Collector {
    /// Starts one that answers everything with 200.
    ///
    /// # Panics
    /// When no port is free.
    #[must_use]
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let taken: Arc<Mutex<Vec<Taken>>> = Arc::default();
        let keep = taken.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let keep = keep.clone();
                std::thread::spawn(move || serve(stream, &keep));
            }
        });
        Self { address, taken }
    }

    /// As `OTEL_EXPORTER_OTLP_ENDPOINT` has it.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Everything so far.
    #[must_use]
    pub fn taken(&self) -> Vec<Taken> {
        self.taken.lock().clone()
    }
}

/// Until the sender closes the connection.
fn serve(stream: TcpStream, taken: &Mutex<Vec<Taken>>) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut stream = stream;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let mut fields = BTreeMap::new();
        loop {
            let mut field = String::new();
            reader.read_line(&mut field).ok()?;
            let Some((name, value)) = field.trim_end().split_once(':') else {
                break;
            };
            fields.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        let length = fields.get("content-length")?.parse().ok()?;
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        taken.lock().push(Taken {
            line: line.trim_end().to_owned(),
            fields,
            body,
        });
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        stream.write_all(answer).ok()?;
    }
}

/// Reads a message (Protocol Buffers encoding, "Message Structure"); none if it is not one.
#[must_use]
pub fn fields(mut bytes: &[u8]) -> Option<Fields> {
    let mut fields = Fields::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        let field = match tag & 7 {
            0 => Field::Number(varint(&mut bytes)?),
            1 => Field::Number(u64::from_le_bytes(take(&mut bytes, 8)?.try_into().ok()?)),
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).ok()?;
                Field::Bytes(take(&mut bytes, length)?.to_vec())
            }
            5 => Field::Number(u32::from_le_bytes(take(&mut bytes, 4)?.try_into().ok()?).into()),
            _ => return None,
        };
        fields.entry(tag >> 3).or_default().push(field);
    }
    Some(fields)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn take<'b>(bytes: &mut &'b [u8], length: usize) -> Option<&'b [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of the encoding's own documentation.
    #[test]
    fn the_documented_examples() {
        let number = fields(&[0x08, 0x96, 0x01]).unwrap();
        assert_eq!(number[&1], [Field::Number(150)]);
        let text = fields(b"\x12\x07testing").unwrap();
        assert_eq!(text[&2], [Field::Bytes(b"testing".to_vec())]);
        let inner = fields(&[0x1a, 0x03, 0x08, 0x96, 0x01]).unwrap();
        assert_eq!(inner[&3], [Field::Bytes(vec![0x08, 0x96, 0x01])]);
        for broken in [&[0x08][..], &[0x12, 0x07, 0x00], &[0x0b]] {
            assert_eq!(fields(broken), None, "{broken:?}");
        }
    }
}
