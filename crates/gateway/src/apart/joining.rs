//! Becoming a gateway, with a token that an operator had made.

use super::ApartError;
use super::key;
use crate::home::Home;
use crate::remote;
use aws_lc_rs::rand::SecureRandom as _;
use aws_lc_rs::rand::SystemRandom;
use bytes::Bytes;
use countersign_core::vocabulary::Code;
use countersign_core::vocabulary::Digest;
use countersign_core::vocabulary::Name;
use countersign_core::vocabulary::TrustDomain;
use countersign_ledger::note::SigningKey;
use countersign_ledger::spool::Spool;
use countersign_ledger::spool::SpoolOptions;
use countersign_ledger::storage::FsStorage;
use countersign_net::Connector;
use countersign_net::Dialer;
use countersign_net::Expected;
use countersign_net::Svid;
use countersign_net::TrustBundle;
use countersign_net::http::Client;
use countersign_net::http::Limits;
use countersign_wire::join::JoinRequest;
use countersign_wire::join::JoinToken;
use countersign_wire::join::Joined;
use futures_util::future::BoxFuture;
use http::Request;
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use zeroize::Zeroizing;

/// What the join port is called in TLS; it proves its SPIFFE ID, not a name.
const NAME: &str = "join";
const LIMITS: Limits = Limits {
    body: 1024 * 1024,
    time: Duration::from_secs(20),
};

/// Turns a join token into a gateway's folder: a key that never leaves it, a certificate, and what
/// it takes to find and believe the server. `server` is where the server is reached from here, if
/// that is not what the token says.
///
/// # Errors
/// [`ApartError`]; the folder is then as it was before, and the token may be used up.
pub fn join<'a>(
    folder: &'a Path,
    token: &'a JoinToken,
    server: Option<&'a str>,
) -> BoxFuture<'a, Result<(), ApartError>> {
    Box::pin(joined(folder, token, server))
}

async fn joined(folder: &Path, token: &JoinToken, server: Option<&str>) -> Result<(), ApartError> {
    let home = Home::open(folder).map_err(ApartError::folder(folder))?;
    let records = records(&home, &token.gateway)?;
    let domain = TrustDomain::new(&token.trust_domain)
        .map_err(|_| ApartError::Token("its trust domain is none"))?;
    let address = server.unwrap_or(&token.server);
    let target = remote::target(address)?;
    let connector = Connector::pinned(token.pin, domain.clone(), Expected::Process("server"))
        .map_err(remote::JoinError::from)?;
    let client = Client::tls(Dialer, connector, NAME, target);
    let (pem, csr) = key::request()?;
    let (seed, witness) = witness()?;
    let request = JoinRequest {
        csr,
        records,
        secret: token.secret.clone(),
        witness,
    };
    let mut joined = ask(&client, &request).await?;
    let bundle = TrustBundle::from_pem(domain, joined.join.roots.as_bytes(), 1)
        .map_err(remote::JoinError::from)?;
    if !bundle.digests().any(|root| root == token.pin) {
        return Err(ApartError::Token(
            "the server's roots are not those it names",
        ));
    }
    let svid = Svid::from_pem(joined.chain.as_bytes(), pem.as_bytes())?;
    if svid.spiffe_id().process() != Some(("gateway", token.gateway.as_str())) {
        return Err(ApartError::Token("the certificate is not for its gateway"));
    }
    if let Some(server) = server {
        joined.join.server = moved(&joined.join.server, server);
    }
    let told = serde_json::to_vec_pretty(&joined.join).map_err(|_| ApartError::Kept)?;
    // What makes the folder a gateway's comes last.
    let write = |name: &str, bytes: &[u8]| {
        home.write(name, bytes)
            .map_err(ApartError::folder(home.path()))
    };
    write(key::WITNESS, hex::encode(*seed).as_bytes())?;
    write(key::SVID, key::both(&pem, &joined.chain).as_bytes())?;
    write(super::JOINED, &told)
}

async fn ask(client: &Client, request: &JoinRequest) -> Result<Joined, ApartError> {
    let body = serde_json::to_vec(request).map_err(|_| ApartError::Kept)?;
    let request = Request::post("/v1/join")
        .header("content-type", "application/json")
        .body(Bytes::from(body))
        .map_err(|_| ApartError::Kept)?;
    let response = client.request(request, LIMITS).await?;
    if response.status() == 200 {
        return serde_json::from_slice(response.body()).map_err(|_| ApartError::Answer(200));
    }
    let problem: Value = serde_json::from_slice(response.body()).unwrap_or_default();
    let text = |name: &str| problem.get(name).and_then(Value::as_str);
    match text("code").and_then(Code::parse) {
        Some(code) => Err(ApartError::Refused {
            code,
            receipt: text("receipt").map(str::to_owned),
        }),
        None => Err(ApartError::Answer(response.status().as_u16())),
    }
}

/// The records of the spool, if the folder has been a gateway's before.
fn records(home: &Home, gateway: &Name) -> Result<u64, ApartError> {
    let joined = home.read(super::JOINED);
    if joined.map_err(ApartError::folder(home.path()))?.is_none() {
        return Ok(0);
    }
    let storage = Arc::new(FsStorage::new(home.path()));
    let (spool, _) = Spool::open(storage, gateway.as_str(), SpoolOptions::default())?;
    Ok(spool.head().next)
}

/// The key that cosigns checkpoints: its seed, and its public half.
fn witness() -> Result<(Zeroizing<[u8; 32]>, Digest), ApartError> {
    let mut seed = Zeroizing::new([0; 32]);
    SystemRandom::new()
        .fill(seed.as_mut())
        .map_err(|_| ApartError::Key)?;
    let key = SigningKey::from_seed("witness", &seed).map_err(|_| ApartError::Key)?;
    Ok((seed, Digest::new(*key.verifier().public())))
}

/// The address the server gave, at the host by which it is reached from here.
fn moved(told: &str, reached: &str) -> String {
    match (told.rsplit_once(':'), reached.rsplit_once(':')) {
        (Some((_, port)), Some((host, _))) => format!("{host}:{port}"),
        _ => told.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_behind_another_address_keeps_its_port() {
        assert_eq!(moved("0.0.0.0:7443", "10.0.0.7:7444"), "10.0.0.7:7443");
        assert_eq!(moved("0.0.0.0:7443", "[::1]:7444"), "[::1]:7443");
    }
}
