//! `login: dev`: a page that offers the configured members.

use super::Visit;
use super::cookies;
use super::origin::same_origin;
use super::see_other;
use crate::body;
use crate::body::Body;
use crate::body::Received;
use crate::refuse::Failure;
use crate::refuse::Stop;
use crate::request::random;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_core::hop::Facts;
use countersign_core::hop::RequestFault;
use countersign_core::vocabulary::Code;
use countersign_enforce::Ask;
use countersign_wire::control::ControlError;
use countersign_wire::control::SignIn;
use http::HeaderValue;
use http::Response;
use http::StatusCode;
use http::header;
use maud::DOCTYPE;
use maud::PreEscaped;
use maud::html;
use secrecy::ExposeSecret;
use secrecy::SecretString;
use std::collections::BTreeSet;

pub(super) const PATH: &str = "/.countersign/login";
pub(super) const LOGOUT: &str = "/.countersign/logout";

/// The longest form, in bytes.
const LONGEST: usize = 16 << 10;
const STYLE: &str = "body{font:1rem/1.5 system-ui,sans-serif;margin:0;color:#1a1a1a}\
.dev{background:#b00020;color:#fff;padding:.75rem 1.5rem;margin:0;font-weight:600}\
main{padding:1.5rem;max-width:40rem}button{font:inherit;padding:.5rem 1rem;margin:.25rem 0;\
min-width:20rem;text-align:left}";

/// The page. Each visit has a form token of its own, which also stands in a cookie that only this
/// host can have set.
pub(super) fn page(visit: &Visit<'_>) -> Result<Response<Body>, Stop> {
    let token = hex::encode(random::<32>()?);
    let query = visit.wanted.query.as_deref().unwrap_or_default();
    let back = field(query.as_bytes(), "return").unwrap_or_default();
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "Sign in" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                p class="dev" role="alert" {
                    "Development sign-in: anybody at this machine can be anybody. Every record says so."
                }
                main {
                    h1 { "Sign in as" }
                    form method="post" action=(PATH) {
                        input type="hidden" name="form" value=(token);
                        input type="hidden" name="return" value=(same_host(&back));
                        @for member in members(visit) {
                            div { button type="submit" name="member" value=(member) { (member) } }
                        }
                    }
                }
            }
        }
    };
    let mut response = Response::new(body::full(page.into_string()));
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/html; charset=utf-8"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(policy) = HeaderValue::from_str(&policy()) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    if let Some(cookie) = cookies::set(cookies::FORM, &token, "Strict") {
        headers.append(header::SET_COOKIE, cookie);
    }
    Ok(response)
}

/// The form comes back.
pub(super) async fn sign_in(visit: &Visit<'_>, body: Received) -> Result<Response<Body>, Stop> {
    let form = match body::own(body, LONGEST).await {
        Ok(form) => form,
        Err(status) => return Ok(plain(status)),
    };
    let expected = cookies::value(&visit.parts.headers, cookies::FORM).unwrap_or_default();
    let given = field(&form, "form").unwrap_or_default();
    let equal =
        aws_lc_rs::constant_time::verify_slices_are_equal(expected.as_bytes(), given.as_bytes());
    if expected.is_empty() || equal.is_err() || !from_here(visit) {
        return Err(cross_site(visit).await);
    }
    let member = field(&form, "member").unwrap_or_default();
    if !members(visit).contains(&member) {
        return Ok(plain(StatusCode::UNPROCESSABLE_ENTITY));
    }
    // The session before this one ends: an id known before sign-in is worth nothing after it.
    end_session(visit).await?;
    let request = SignIn {
        door: visit.connected.door.clone(),
        member,
        source_ip: Some(visit.connected.source_ip()),
    };
    let signed_in = visit.plane.control.sign_in(request).await.map_err(stop)?;
    let mut response = see_other(&same_host(&field(&form, "return").unwrap_or_default()));
    let headers = response.headers_mut();
    let session = cookies::set(cookies::SESSION, signed_in.cookie.expose_secret(), "Lax");
    for cookie in [session, cookies::clear(cookies::FORM)]
        .into_iter()
        .flatten()
    {
        headers.append(header::SET_COOKIE, cookie);
    }
    Ok(response)
}

/// Ends the session and goes back to the page.
pub(super) async fn sign_out(visit: &Visit<'_>) -> Result<Response<Body>, Stop> {
    if !from_here(visit) {
        return Err(cross_site(visit).await);
    }
    end_session(visit).await?;
    let mut response = see_other(PATH);
    if let Some(cookie) = cookies::clear(cookies::SESSION) {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    Ok(response)
}

/// A path of this host, or `/`: a return address elsewhere would lend our name to others.
pub(super) fn same_host(path: &str) -> String {
    let bytes = path.as_bytes();
    // Browsers read `\` as `/` and skip tabs and line breaks, so `/\host` and `/<tab>/host` leave.
    let plain = bytes
        .iter()
        .all(|byte| (0x21..0x7f).contains(byte) && *byte != b'\\');
    let ours = path.starts_with('/') && !path.starts_with("//") && !path.starts_with(super::OURS);
    if plain && ours {
        path.to_owned()
    } else {
        "/".to_owned()
    }
}

/// Percent-encoded for a query value.
pub(super) fn escape(text: &str) -> String {
    let plain =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'/');
    text.bytes()
        .fold(String::with_capacity(text.len()), |mut out, byte| {
            if plain(byte) {
                out.push(char::from(byte));
            } else {
                out.push_str(&format!("%{byte:02X}"));
            }
            out
        })
}

/// Whom the page offers.
fn members(visit: &Visit<'_>) -> BTreeSet<String> {
    let login = visit.listener().and_then(|it| it.login.as_ref());
    let offered = login.map(|login| visit.snapshot.config().offered(login));
    offered
        .unwrap_or_default()
        .iter()
        .map(ToString::to_string)
        .collect()
}

fn from_here(visit: &Visit<'_>) -> bool {
    same_origin(visit.parts, visit.wanted.host.as_ref()) == Some(true)
}

/// A session that may live on was not ended, whatever the reason: the caller is told, and keeps
/// the cookie to try again with.
async fn end_session(visit: &Visit<'_>) -> Result<(), Stop> {
    let Some(cookie) = cookies::value(&visit.parts.headers, cookies::SESSION) else {
        return Ok(());
    };
    visit.sessions.forget(cookie);
    let ended = visit
        .plane
        .control
        .sign_out(SecretString::from(cookie))
        .await;
    match ended {
        Ok(()) | Err(ControlError::NoSession) => Ok(()),
        Err(error) => {
            tracing::warn!(%error, "a session was not ended");
            Err(Stop::Failed {
                failure: Failure::Control,
                receipt: None,
            })
        }
    }
}

/// Refused like any other cross-site request, with a record.
async fn cross_site(visit: &Visit<'_>) -> Stop {
    let detail = "a form that no page of this door was sent with".to_owned();
    let ask = Ask {
        door: visit.connected.door.clone(),
        service: String::new(),
        operation: visit.wanted.operation.clone(),
        evidence: visit.connected.evidence(),
        facts: Facts {
            fault: Some(RequestFault {
                code: Code::CROSS_SITE,
                detail,
            }),
            same_origin: Some(false),
            ..Facts::default()
        },
        context: visit.context,
    };
    match visit.plane.point.enforce(ask).await {
        Err(refusal) => Stop::refused(&refusal, false),
        // A fault is never admitted; were it, there would still be nothing here to be had.
        Ok(_) => Stop::Answered(Box::new(plain(StatusCode::FORBIDDEN))),
    }
}

fn stop(error: ControlError) -> Stop {
    match error {
        ControlError::Refused { code, receipt } => Stop::Refused {
            code,
            faults: Vec::new(),
            limit: None,
            model: false,
            receipt,
            retry_after: None,
            under_way: false,
        },
        error => {
            tracing::warn!(%error, "nobody can sign in");
            Stop::Failed {
                failure: Failure::Control,
                receipt: None,
            }
        }
    }
}

/// Nothing but this page, its one style and its one form.
fn policy() -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, STYLE.as_bytes());
    let hash = STANDARD.encode(digest.as_ref());
    format!(
        "default-src 'none'; style-src 'sha256-{hash}'; form-action 'self'; base-uri 'none'; \
         frame-ancestors 'none'"
    )
}

/// A field of a form or query (`application/x-www-form-urlencoded`); none if it is given twice or
/// is not UTF-8.
fn field(form: &[u8], name: &str) -> Option<String> {
    let mut found = None;
    for pair in form.split(|byte| *byte == b'&') {
        let (key, value) = match memchr::memchr(b'=', pair) {
            Some(at) => (pair.get(..at)?, pair.get(at + 1..)?),
            None => (pair, &[][..]),
        };
        if unescape(key).as_deref() == Some(name) {
            let value = unescape(value)?;
            if found.replace(value).is_some() {
                return None;
            }
        }
    }
    found
}

fn unescape(text: &[u8]) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            b'+' => out.push(b' '),
            b'%' => {
                let digits = [bytes.next()?, bytes.next()?];
                out.extend(hex::decode(digits).ok()?);
            }
            byte => out.push(byte),
        }
    }
    String::from_utf8(out).ok()
}

fn plain(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(body::empty());
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn back_to_this_host_only() {
        for path in ["/", "/a/b?c=d", "/a//b", "/a;b"] {
            assert_eq!(same_host(path), path);
        }
        for path in [
            "",
            "//evil",
            "/\\evil",
            "https://evil",
            "/\t/evil",
            "/a b",
            "a",
            "/.countersign/logout",
            "/\u{e9}",
        ] {
            assert_eq!(same_host(path), "/", "{path}");
        }
    }

    #[test]
    fn fields() {
        let form = b"a=1&member=group%3Adev%2Fanalysts&b=+x";
        assert_eq!(field(form, "member").as_deref(), Some("group:dev/analysts"));
        assert_eq!(field(form, "b").as_deref(), Some(" x"));
        assert_eq!(field(b"a=1&a=2", "a"), None);
        assert_eq!(field(b"a=%ff", "a"), None);
        assert_eq!(field(b"a=%f", "a"), None);
    }

    proptest! {
        #[test]
        fn what_is_escaped_comes_back(text in ".{0,40}") {
            let query = format!("return={}", escape(&text));
            prop_assert_eq!(field(query.as_bytes(), "return"), Some(text));
        }

        #[test]
        fn never_panics(form: Vec<u8>) {
            let _ = field(&form, "a");
        }
    }
}
