//! Ids of requests.

use aws_lc_rs::rand::SecureRandom as _;

/// A random UUID (RFC 9562 section 5.4) that names a request across records.
#[must_use]
pub(crate) fn request_id() -> String {
    let mut bytes = [0_u8; 16];
    if aws_lc_rs::rand::SystemRandom::new()
        .fill(&mut bytes)
        .is_err()
    {
        return String::new();
    }
    let bits = u128::from_be_bytes(bytes);
    let bits = bits & !(0xf << 76) & !(0x3 << 62) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    let part = |range: std::ops::Range<usize>| hex.get(range).unwrap_or_default();
    let parts = [
        part(0..8),
        part(8..12),
        part(12..16),
        part(16..20),
        part(20..32),
    ];
    parts.join("-")
}

/// What no peer can guess: 128 random bits in hex. None if the system has no randomness.
#[must_use]
pub(crate) fn nonce() -> Option<String> {
    let mut bytes = [0_u8; 16];
    let filled = aws_lc_rs::rand::SystemRandom::new().fill(&mut bytes);
    filled.ok().map(|()| hex::encode(bytes))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_version_4_uuid() {
        let id = super::request_id();
        assert_eq!(id.len(), 36);
        assert_eq!(id.as_bytes()[14], b'4');
        assert!(b"89ab".contains(&id.as_bytes()[19]), "{id}");
        assert_ne!(id, super::request_id());
    }
}
