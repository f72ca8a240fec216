//! Somebody at a browser, as far as the tour needs one: signs in, keeps the cookie, asks.

use super::world::PATIENCE;
use anyhow::Context as _;
use bytes::Bytes;
use countersign_net::Connector;
use countersign_net::Dialer;
use countersign_net::PublicRoots;
use countersign_net::dial::Network;
use countersign_net::dial::Target;
use countersign_net::http::Client;
use countersign_net::http::Limits;
use http::Request;
use http::Response;
use http::header;
use std::net::SocketAddr;

/// A browser with one cookie.
pub(super) struct Browser {
    client: Client,
    cookie: Option<String>,
}

const LIMITS: Limits = Limits {
    body: 1 << 20,
    time: PATIENCE,
};
const LOGIN: &str = "/.countersign/login";

impl Browser {
    /// A browser that trusts the roots in `bundle`.
    pub(super) fn new(door: SocketAddr, bundle: &str) -> anyhow::Result<Self> {
        let roots = PublicRoots::none().with_pem(bundle.as_bytes())?;
        let connector = Connector::public(&roots)?;
        let target = Target {
            host: door.ip().to_string(),
            network: Network::Loopback,
            port: door.port(),
        };
        Ok(Self {
            client: Client::tls(Dialer, connector, "localhost", target),
            cookie: None,
        })
    }

    /// Signs in on the page of `login: dev`.
    pub(super) async fn sign_in(&mut self, member: &str) -> anyhow::Result<()> {
        let page = self
            .client
            .request(Request::get(LOGIN).body(Bytes::new())?, LIMITS)
            .await?;
        let form_cookie =
            cookie(&page, "__Host-cs-form").context("the sign-in page sets no form cookie")?;
        let html = String::from_utf8_lossy(page.body()).into_owned();
        let token = between(&html, "name=\"form\" value=\"", "\"")
            .context("the sign-in page has no form token")?;
        let body = format!(
            "form={token}&return=%2F&member={}",
            member.replace(':', "%3A").replace('/', "%2F")
        );
        let request = Request::post(LOGIN)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(header::COOKIE, form_cookie)
            .header("sec-fetch-site", "same-origin")
            .body(Bytes::from(body))?;
        let answer = self.client.request(request, LIMITS).await?;
        let session = cookie(&answer, "__Host-cs");
        self.cookie =
            Some(session.with_context(|| format!("signing in answered {}", answer.status()))?);
        Ok(())
    }

    /// Sends JSON from a page of the same origin.
    pub(super) async fn post(
        &self,
        path: &str,
        body: &serde_json::Value,
    ) -> anyhow::Result<Response<Bytes>> {
        let mut request = Request::post(path)
            .header(header::CONTENT_TYPE, "application/json")
            .header("sec-fetch-site", "same-origin");
        if let Some(cookie) = &self.cookie {
            request = request.header(header::COOKIE, cookie);
        }
        Ok(self
            .client
            .request(request.body(Bytes::from(body.to_string()))?, LIMITS)
            .await?)
    }

    /// The value of the session cookie.
    pub(super) fn session(&self) -> Option<&str> {
        self.cookie
            .as_deref()?
            .split_once('=')
            .map(|(_, value)| value)
    }
}

/// `name=value` of a cookie that a response sets.
fn cookie(response: &Response<Bytes>, name: &str) -> Option<String> {
    let set = response
        .headers()
        .get_all(header::SET_COOKIE)
        .iter()
        .filter_map(|it| it.to_str().ok());
    let pairs = set.filter_map(|line| line.split(';').next());
    pairs
        .map(str::trim)
        .find(|pair| pair.split('=').next() == Some(name))
        .map(str::to_owned)
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(before)?;
    rest.split_once(after).map(|(found, _)| found)
}
