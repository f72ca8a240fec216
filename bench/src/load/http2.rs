//! Connections of HTTP/2 with several streams on each.

use super::Shared;
use super::connections;
use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use bytes::Bytes;
use h2::client::SendRequest;
use http::HeaderValue;
use http::Request;
use http::header;
use std::rc::Rc;
use std::time::Instant;
use tokio::task::JoinSet;

/// What is granted to the other side at once, in bytes: a window that never holds anybody up.
const WINDOW: u32 = 8 << 20;

/// Asks over `count` connections with `streams` at a time until the time is over.
pub(super) async fn run(shared: &Rc<Shared>, count: usize, streams: usize) -> Result<()> {
    let connector = connections::connector(shared, b"h2")?;
    let requests: Result<Vec<_>> = shared.tokens.iter().map(|it| request(shared, it)).collect();
    let requests = Rc::new(requests?);
    let mut senders = Vec::with_capacity(count);
    for _ in 0..count {
        let stream = connections::open(shared, &connector).await?;
        let (sender, connection) = h2::client::Builder::new()
            .initial_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .handshake::<_, Bytes>(stream)
            .await?;
        tokio::task::spawn_local(connection);
        senders.push(sender);
    }
    shared.warm();
    round(shared, &requests, &senders, streams).await?;
    shared.begin()?;
    round(shared, &requests, &senders, streams).await
}

fn request(shared: &Shared, token: &str) -> Result<Request<()>> {
    let uri = format!("https://{}{}", shared.spec.host, shared.spec.path);
    let mut request = Request::get(uri).version(http::Version::HTTP_2).body(())?;
    let token = HeaderValue::try_from(format!("Bearer {token}"))?;
    request.headers_mut().insert(header::AUTHORIZATION, token);
    Ok(request)
}

async fn round(
    shared: &Rc<Shared>,
    requests: &Rc<Vec<Request<()>>>,
    senders: &[SendRequest<Bytes>],
    streams: usize,
) -> Result<()> {
    let mut tasks = JoinSet::new();
    for sender in senders {
        for _ in 0..streams {
            let (shared, requests, sender) = (shared.clone(), requests.clone(), sender.clone());
            tasks.spawn_local(async move { keep_asking(&shared, &requests, sender).await });
        }
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(())
}

async fn keep_asking(
    shared: &Shared,
    requests: &[Request<()>],
    mut sender: SendRequest<Bytes>,
) -> Result<()> {
    while let Some(number) = shared.next() {
        let since = Instant::now();
        let request = requests.get(number % requests.len()).context("no token")?;
        sender = sender.ready().await.context("the connection ended")?;
        match ask(&mut sender, request.clone()).await {
            Ok(()) => shared.answered(since),
            Err(error) => shared.failed(&error),
        }
    }
    Ok(())
}

async fn ask(sender: &mut SendRequest<Bytes>, request: Request<()>) -> Result<()> {
    let (response, _) = sender.send_request(request, true)?;
    let response = response.await?;
    let status = response.status();
    let mut body = response.into_body();
    while let Some(chunk) = body.data().await {
        body.flow_control().release_capacity(chunk?.len())?;
    }
    ensure!(status == 200, "status {status}");
    Ok(())
}
