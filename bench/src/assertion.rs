//! What signing the assertion costs: countersign gives one to the service with each request, and
//! none of the others does anything of the kind.

use crate::machine;
use crate::machine::PROXY_CORE;
use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use countersign_core::vocabulary::SpiffeId;
use countersign_net::KeyAlgorithm;
use countersign_net::SigningKey;
use countersign_net::assertion;
use countersign_net::assertion::Assertion;
use std::process::Command;

/// Microseconds of CPU per signature, on the core that the proxies are on.
pub(crate) fn measured(smoke: bool) -> Result<f64> {
    let count = if smoke { 2_000 } else { 50_000 };
    let own = std::env::current_exe()?;
    let mut command = Command::new("taskset");
    command.args(["-c", PROXY_CORE]).arg(own);
    let output = command
        .args(["sign", "--count", &count.to_string()])
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "signing failed: {text}");
    text.trim().parse().with_context(|| text.into_owned())
}

/// Signs this many and prints what one took.
pub(crate) fn sign(count: u32) -> Result<()> {
    let key = SigningKey::generate(KeyAlgorithm::EdDsa)?;
    let mut assertion = Assertion {
        act: Vec::new(),
        aud: "https://bench.internal/svc/reports".to_owned(),
        exp: 1_795_600_830,
        iat: 1_795_600_800,
        iss: SpiffeId::parse("spiffe://bench.internal/countersign/gateway/bench")?,
        jti: String::new(),
        method: "GET".to_owned(),
        path: "/v1/reports/42".to_owned(),
        receipt: "01HZX3T2Q4M6V8W9Y0A1B2C3D4E5F6G7H8".to_owned(),
        sub: "spiffe://bench.internal/frontend".to_owned(),
    };
    let own = std::process::id();
    let before = machine::cpu(own)?;
    let mut length = 0;
    for number in 0..count {
        assertion.jti = format!("{number:032x}");
        length += assertion::sign(&key, &assertion)?.len();
    }
    let used = machine::cpu(own)? - before;
    ensure!(length > 0, "nothing was signed");
    println!("{}", used * 1e6 / f64::from(count.max(1)));
    Ok(())
}
