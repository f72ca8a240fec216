//! HTTP/1.1: bytes there, whole answers back.

use super::Outcome;
use super::Target;
use super::fill;
use super::latin;
use serde_json::Value;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt as _;

/// What is sent: texts, and texts that are repeated.
pub(super) fn bytes(send: &Value, target: &Target) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in send.as_array().unwrap() {
        let (text, times) = match part.as_str() {
            Some(text) => (text, 1),
            None => (
                part["of"].as_str().unwrap(),
                part["repeat"].as_u64().unwrap(),
            ),
        };
        let text = latin(&fill(text, target));
        for _ in 0..times {
            bytes.extend_from_slice(&text);
        }
    }
    bytes
}

/// Sends them and reads until as many answers are there as there must be, or the door closes; then
/// nothing more may come.
pub(super) async fn play<IO>(io: IO, bytes: &[u8], must: &Value) -> Result<Outcome, String>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send,
{
    let (mut from, mut to) = tokio::io::split(io);
    let wanted = must.as_array().map(Vec::len);
    let writing = async {
        // The door may be closed before all is written.
        let _ = to.write_all(bytes).await;
        let _ = to.flush().await;
    };
    let reading = async {
        let mut heard = Vec::new();
        let mut buffer = vec![0; 16 << 10];
        loop {
            let (answers, _) = answers(&heard, false);
            let kept = answers.last().is_some_and(|it| !it.ends);
            if kept && wanted == Some(answers.len()) {
                return (heard, false);
            }
            match from.read(&mut buffer).await {
                Ok(read) if read > 0 => heard.extend_from_slice(&buffer[..read]),
                _ => return (heard, true),
            }
        }
    };
    let ((), (heard, ended)) = tokio::join!(writing, reading);
    judge(&heard, ended, must)
}

fn judge(heard: &[u8], ended: bool, must: &Value) -> Result<Outcome, String> {
    let (answers, rest) = answers(heard, ended);
    let told: Vec<String> = answers.iter().map(Answer::told).collect();
    let mut outcome = Outcome {
        receipts: answers.iter().filter_map(|it| it.receipt.clone()).collect(),
        admitted: answers.iter().filter(|it| it.is_good()).count(),
        ..Outcome::default()
    };
    let wrong = || Err(format!("{told:?} and {} bytes", rest.len()));
    if !rest.is_empty() && must != "cut" {
        return wrong();
    }
    match must.as_str() {
        // At most one answer, no success, and the end of the connection.
        Some("cut") => {
            outcome.cut = true;
            if answers.len() > 1 || outcome.admitted > 0 {
                return wrong();
            }
        }
        // Whatever the answer, nothing behind it was read.
        Some("closed") => {
            if answers.len() > 1 {
                return wrong();
            }
        }
        _ => {
            let must: Vec<_> = must.as_array().unwrap().iter().collect();
            let same = |(told, must): (&String, &&Value)| told.as_str() == *must;
            if told.len() != must.len() || !told.iter().zip(&must).all(same) {
                return wrong();
            }
        }
    }
    Ok(outcome)
}

struct Answer {
    status: u16,
    code: Option<String>,
    receipt: Option<String>,
    /// Whether the connection has to end behind it: it says so, or what was sent has no single
    /// reading, so nobody knows where the next request begins.
    ends: bool,
}

impl Answer {
    fn is_good(&self) -> bool {
        self.status < 300
    }

    /// `400 CSD221`, or the status alone.
    fn told(&self) -> String {
        match &self.code {
            Some(code) => format!("{} {code}", self.status),
            None => self.status.to_string(),
        }
    }
}

/// The whole answers, and what is left, of a connection that has `ended` or not.
fn answers(mut heard: &[u8], ended: bool) -> (Vec<Answer>, &[u8]) {
    let mut answers = Vec::new();
    while let Some((answer, length)) = answer(heard, ended) {
        heard = &heard[length..];
        answers.push(answer);
    }
    (answers, heard)
}

fn answer(heard: &[u8], ended: bool) -> Option<(Answer, usize)> {
    let end = heard.windows(4).position(|it| it == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&heard[..end]).to_lowercase();
    let field = |name: &str| {
        let lines = head.split("\r\n").skip(1);
        let mut fields = lines.filter_map(|line| line.split_once(':'));
        let found = fields.find(|(it, _)| *it == name);
        found.map(|(_, value)| value.trim().to_owned())
    };
    let status: u16 = head.split(' ').nth(1)?.parse().ok()?;
    // Statuses before the answer (RFC 9110 section 15.2) are none.
    if (100..200).contains(&status) {
        let (answer, more) = answer(&heard[end..], ended)?;
        return Some((answer, end + more));
    }
    let (body, length) = match field("content-length") {
        Some(length) => {
            let length: usize = length.parse().ok()?;
            (heard.get(end..end + length)?.to_vec(), length)
        }
        None if field("transfer-encoding").is_some() => chunks(&heard[end..])?,
        // Its end is the connection's (RFC 9112 section 6.3).
        None if !ended => return None,
        None => (heard[end..].to_vec(), heard.len() - end),
    };
    let document: Value = serde_json::from_slice(&body).unwrap_or_default();
    let code = document["code"].as_str().map(str::to_owned);
    let unread = matches!(code.as_deref(), Some("CSD221" | "CSD222"));
    let answer = Answer {
        status,
        ends: unread || field("connection").is_some_and(|it| it.contains("close")),
        code,
        receipt: field("countersign-receipt"),
    };
    Some((answer, end + length))
}

fn chunks(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let line = bytes.get(at..)?.windows(2).position(|it| it == b"\r\n")?;
        let size = std::str::from_utf8(&bytes[at..at + line]).ok()?;
        let size = usize::from_str_radix(size, 16).ok()?;
        let start = at + line + 2;
        body.extend_from_slice(bytes.get(start..start + size)?);
        at = start + size + 2;
        if size == 0 {
            return (bytes.len() >= at).then_some((body, at));
        }
    }
}
