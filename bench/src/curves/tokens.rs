//! Tokens in rotation: how long one takes to be recognised.

use super::Table;
use super::micros;
use anyhow::Result;
use anyhow::ensure;
use countersign_core::hop::Binding;
use countersign_core::hop::Claims;
use countersign_core::hop::Token;
use countersign_core::vocabulary::Digest;
use countersign_core::vocabulary::Timestamp;
use countersign_net::KeyAlgorithm;
use countersign_net::KeySet;
use countersign_net::Keys;
use countersign_net::SigningKey;
use countersign_net::TokenVerifier;
use countersign_net::token::CACHED_TOKENS;
use countersign_net::token::Presenter;
use countersign_net::token::sign_access_token;

const NOW: Timestamp = Timestamp::from_secs(1_795_600_800);
const ISSUER: &str = "https://bench.internal";

pub(super) fn curve(quick: bool) -> Result<String> {
    let sizes: &[usize] = if quick {
        &[1, 100]
    } else {
        &[1, 10, 100, 1_000, 10_000, 100_000]
    };
    let key = SigningKey::generate(KeyAlgorithm::Es256)?;
    let mut keys = KeySet::empty(1);
    keys.add(&key);
    let keys = Keys::new(keys);
    let mut table = Table::new(&["tokens in rotation", "seen before, µs", "first sight, µs"]);
    for &size in sizes {
        let tokens = tokens(&key, size)?;
        let verifier = TokenVerifier::new(keys.clone(), ISSUER.to_owned(), CACHED_TOKENS);
        let verify = |token: &String| {
            verifier.verify_token(token, Presenter::Certificate(Digest::new([1; 32])), NOW)
        };
        let (first, all) = super::once(|| {
            let mut good = 0_usize;
            for token in &tokens {
                good += usize::from(matches!(verify(token), Token::Verified(_)));
            }
            good
        });
        ensure!(first == size, "{first} of {size} tokens verify");
        let mut rotation = tokens.iter().cycle();
        let again = micros(|| rotation.next(), |token| token.map(verify));
        #[expect(clippy::cast_precision_loss, reason = "a count")]
        let first = all / size as f64;
        table.line(size as u64, &[again, first]);
    }
    Ok(table.0)
}

fn tokens(key: &SigningKey, count: usize) -> Result<Vec<String>> {
    let mut claims = Claims {
        act: Vec::new(),
        aud: "https://bench.internal/svc/reports".to_owned(),
        ceil: Vec::new(),
        client_id: "spiffe://bench.internal/frontend".to_owned(),
        cnf: Binding::Certificate(Digest::new([1; 32])),
        exp: NOW.as_secs() + 60,
        groups: Vec::new(),
        iat: NOW.as_secs(),
        iss: ISSUER.to_owned(),
        jti: String::new(),
        nbf: None,
        roles: Vec::new(),
        scope: Vec::new(),
        sid: None,
        sub: "spiffe://bench.internal/frontend".to_owned(),
    };
    let mut tokens = Vec::with_capacity(count);
    for number in 0..count {
        claims.jti = format!("{number:032x}");
        tokens.push(sign_access_token(key, &claims)?);
    }
    Ok(tokens)
}
