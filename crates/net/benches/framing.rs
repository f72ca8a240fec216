//! What the guard in front of the HTTP library costs.
//!
//! `cargo bench -p countersign-net --bench framing`.

use countersign_net::framing::Framing;
use countersign_net::framing::Guarded;
use countersign_net::framing::HeadLimits;
use criterion::Criterion;
use criterion::Throughput;
use criterion::criterion_group;
use criterion::criterion_main;
use std::error::Error;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;
use std::time::Duration;
use tokio::io::AsyncRead;
use tokio::io::ReadBuf;

const LIMITS: HeadLimits = HeadLimits {
    bytes: 32 << 10,
    fields: 100,
};

type Outcome = Result<(), Box<dyn Error>>;

/// What a service sends through a gateway: few fields, most of the bytes in one of them.
fn head() -> String {
    let bearer = "x".repeat(800);
    format!(
        "GET /v1/reports/42?from=2026-11-01&to=2026-11-22 HTTP/1.1\r\n\
         host: hms-api.acme.internal:8443\r\n\
         user-agent: reports-frontend/3.14.1 (linux; x86_64)\r\n\
         accept: application/json, application/problem+json;q=0.9\r\n\
         accept-encoding: gzip, br\r\n\
         authorization: Bearer {bearer}\r\n\
         traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\
         x-request-id: 01HZX3T2Q4M6V8W9Y0A1B2C3D4\r\n\
         connection: keep-alive\r\n\r\n"
    )
}

/// A body in chunks of 1 KiB, with its head.
fn chunked() -> String {
    let mut text =
        String::from("POST /v1 HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n");
    for _ in 0..64 {
        text.push_str("400\r\n");
        text.push_str(&"y".repeat(0x400));
        text.push_str("\r\n");
    }
    text.push_str("0\r\n\r\n");
    text
}

/// A connection on which the same message comes again and again, one at each read.
struct Again<'a>(&'a [u8]);

impl AsyncRead for Again<'_> {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let fits = self.0.len() <= buffer.remaining();
        buffer.put_slice(if fits { self.0 } else { &[] });
        Poll::Ready(Ok(()))
    }
}

/// `head`: that a request without a body can be read in one way only. `chunked, 64 KiB`: the same
/// of a body in chunks. `head, read`: the first with what stands around it, from the connection to
/// the buffer of the HTTP library.
fn measure(criterion: &mut Criterion) -> Outcome {
    let (head, chunked) = (head(), chunked());
    let mut group = criterion.benchmark_group("framing");
    group
        .sample_size(50)
        .measurement_time(Duration::from_secs(2));
    for (name, message) in [("head", &head), ("chunked, 64 KiB", &chunked)] {
        let bytes = message.as_bytes();
        if Framing::new(LIMITS).pass(bytes) != Ok(bytes.len()) {
            return Err("a good message is not let through".into());
        }
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(name, |bench| {
            bench.iter(|| Framing::new(LIMITS).pass(bytes));
        });
    }
    let bytes = head.as_bytes();
    let (mut guarded, _guard) = Guarded::new(Again(bytes), LIMITS, "f00d".to_owned());
    let mut room = [MaybeUninit::uninit(); 8 << 10];
    let mut read = || {
        let mut buffer = ReadBuf::uninit(&mut room);
        let polled =
            Pin::new(&mut guarded).poll_read(&mut Context::from_waker(Waker::noop()), &mut buffer);
        polled.is_ready() && buffer.filled().len() == bytes.len()
    };
    if !read() {
        return Err("a good message is not read".into());
    }
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function("head, read", |bench| bench.iter(&mut read));
    group.finish();
    Ok(())
}

fn framing(criterion: &mut Criterion) {
    if let Err(error) = measure(criterion) {
        criterion.bench_function(&format!("failed: {error}"), |bench| bench.iter(|| ()));
    }
}

criterion_group!(benches, framing);
criterion_main!(benches);
