//! What is left of the rate limits, as callers read it.
//!
//! `RateLimit` and `RateLimit-Policy` are the IETF's ("RateLimit header fields for HTTP", a draft);
//! `X-RateLimit-*` are what most clients of today look for. Of several limits the tightest is told.
//! A quota is told as the burst and the time after which it is whole again: that is the same limit
//! as its count and window, and what remains of it is never more than it.

use countersign_core::record::Charged;
use countersign_core::record::Limit;
use countersign_net::problem::seconds;
use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LEFT: HeaderName = HeaderName::from_static("ratelimit");
const X_LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const X_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const X_RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// Tells the tightest of the limits that a call was counted against; nothing where there is none.
pub(crate) fn tell(charged: &[Charged], fields: &mut HeaderMap) {
    let tightest = charged
        .iter()
        .min_by_key(|it| (it.remaining, std::cmp::Reverse(it.reset_ms)));
    if let Some(tightest) = tightest {
        tell_one(tightest, fields);
    }
}

/// Tells one limit. What an upstream says of its own stays beside it in the fields that are lists,
/// and in the others where it is the tighter: what passes it on may say less is left, never more.
pub(crate) fn tell_one(charged: &Charged, fields: &mut HeaderMap) {
    let charge = &charged.charge;
    let name = name(&charge.limit);
    let (burst, window) = (charge.burst, seconds(charge.refill()));
    let (remaining, reset) = (charged.remaining, seconds(charged.reset()));
    append(fields, POLICY, &format!("{name};q={burst};w={window}"));
    append(fields, LEFT, &format!("{name};r={remaining};t={reset}"));
    if upstreams(fields).is_some_and(|theirs| theirs <= remaining) {
        return;
    }
    fields.insert(X_LIMIT, burst.into());
    fields.insert(X_REMAINING, remaining.into());
    fields.insert(X_RESET, reset.into());
}

/// How much an upstream says is left.
fn upstreams(fields: &HeaderMap) -> Option<u32> {
    fields.get(X_REMAINING)?.to_str().ok()?.trim().parse().ok()
}

fn append(fields: &mut HeaderMap, name: HeaderName, text: &str) {
    if let Ok(value) = HeaderValue::from_str(text) {
        fields.append(name, value);
    }
}

/// Which limit it is, as a string of structured fields (RFC 9651 section 3.3.3). Listeners, tiers and
/// services may have one name, and a service has many operations, so the kind is said, and of an
/// operation its pattern.
fn name(limit: &Limit) -> String {
    let name = match limit {
        Limit::Listener(name) => format!("listener {name}"),
        Limit::Operation { pattern, service } => format!("{pattern} of {service}"),
        Limit::Tier(name) => format!("tier {name}"),
    };
    let mut string = String::from("\"");
    for character in name.chars() {
        match character {
            '"' | '\\' => string.extend(['\\', character]),
            ' '..='~' => string.push(character),
            // The string has no others.
            other => string.extend(other.escape_unicode().filter(|it| *it != '\\')),
        }
    }
    string.push('"');
    string
}

#[cfg(test)]
mod tests {
    use super::*;
    use countersign_core::config::Rate;
    use countersign_core::record::Charge;
    use countersign_core::record::RateResult;
    use countersign_core::vocabulary::Name;
    use std::time::Duration;

    fn charged(name: &str, burst: u32, remaining: u32, reset_ms: u64) -> Charged {
        let rate = Rate {
            count: 100,
            per: Duration::from_secs(60),
            burst,
        };
        let limit = Limit::Tier(Name::new(name).unwrap());
        Charged {
            charge: Charge::new(limit, rate, "dev:alice".into()),
            remaining,
            reset_ms,
            result: RateResult::Granted,
        }
    }

    fn all(fields: &HeaderMap, name: &str) -> Vec<String> {
        let values = fields.get_all(name).iter();
        values.map(|it| it.to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn the_tightest_is_told() {
        let mut fields = HeaderMap::new();
        tell(&[], &mut fields);
        assert!(fields.is_empty());
        let limits = [
            charged("wide", 200, 150, 10),
            charged("pro", 150, 3, 88_200),
            charged("short", 10, 3, 1_000),
        ];
        tell(&limits, &mut fields);
        assert_eq!(
            all(&fields, "ratelimit-policy"),
            ["\"tier pro\";q=150;w=90"]
        );
        assert_eq!(all(&fields, "ratelimit"), ["\"tier pro\";r=3;t=89"]);
        assert_eq!(all(&fields, "x-ratelimit-limit"), ["150"]);
        assert_eq!(all(&fields, "x-ratelimit-remaining"), ["3"]);
        assert_eq!(all(&fields, "x-ratelimit-reset"), ["89"]);
    }

    #[test]
    fn limits_of_one_name_are_told_apart() {
        let same = Name::new("api").unwrap();
        let operation = |pattern: &str| Limit::Operation {
            pattern: pattern.into(),
            service: same.clone(),
        };
        let limits = [
            Limit::Listener(same.clone()),
            Limit::Tier(same.clone()),
            operation("GET /a"),
            operation("GET /\"\\é"),
        ];
        let expected = [
            "\"listener api\"",
            "\"tier api\"",
            "\"GET /a of api\"",
            "\"GET /\\\"\\\\u{e9} of api\"",
        ];
        assert_eq!(limits.each_ref().map(name), expected);
    }

    #[test]
    fn an_upstreams_own_is_never_loosened() {
        let theirs = |remaining: &str| {
            let mut fields = HeaderMap::new();
            append(&mut fields, LEFT, "\"theirs\";r=1;t=5");
            append(&mut fields, X_LIMIT, "7");
            append(&mut fields, X_REMAINING, remaining);
            append(&mut fields, X_RESET, "5");
            tell(&[charged("pro", 150, 3, 1_000)], &mut fields);
            fields
        };
        let (tighter, looser) = (theirs("2"), theirs("4"));
        for fields in [&tighter, &looser] {
            let left = all(fields, "ratelimit");
            assert_eq!(left, ["\"theirs\";r=1;t=5", "\"tier pro\";r=3;t=1"]);
        }
        let told = |fields| {
            [
                "x-ratelimit-limit",
                "x-ratelimit-remaining",
                "x-ratelimit-reset",
            ]
            .map(|name| all(fields, name).join(","))
        };
        assert_eq!(told(&tighter), ["7", "2", "5"]);
        assert_eq!(told(&looser), ["150", "3", "1"]);
        assert_eq!(told(&theirs("many")), ["150", "3", "1"]);
    }
}
