//! The short name of a record: `r-` and twelve characters, derived from its leaf hash.

use crate::Hash;
use std::fmt;
use std::str::FromStr;

/// Crockford's base 32 in lower case: no `i`, `l`, `o` or `u`.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

const DIGITS: u32 = 12;

/// The first 60 bits of a leaf hash, displayed as `r-4f2k9q7xw3bt`.
///
/// Enough to find a record by hand, not a proof of anything: proofs use the whole hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReceiptId(u64);

/// The start of a receipt id, as people shorten them: `r-4f2`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReceiptPrefix {
    low: u64,
    high: u64,
}

/// The text is no receipt id, or no start of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a receipt: expected `r-` and up to twelve letters and digits")]
pub struct ReceiptIdError;

impl From<&Hash> for ReceiptId {
    fn from(leaf_hash: &Hash) -> Self {
        Self(first_60_bits(leaf_hash))
    }
}

impl fmt::Display for ReceiptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = *b"r-000000000000";
        let digits = text.iter_mut().rev().take(DIGITS as usize);
        for (place, digit) in digits.enumerate() {
            let value = (self.0 >> (place * 5)) & 31;
            *digit = ALPHABET.get(value as usize).copied().unwrap_or_default();
        }
        f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

impl FromStr for ReceiptId {
    type Err = ReceiptIdError;

    /// Reads upper case too, and takes `i`, `l` for `1` and `o` for `0`, as Crockford asks.
    fn from_str(text: &str) -> Result<Self, ReceiptIdError> {
        let prefix: ReceiptPrefix = text.parse()?;
        if prefix.low == prefix.high {
            Ok(Self(prefix.low))
        } else {
            Err(ReceiptIdError)
        }
    }
}

impl FromStr for ReceiptPrefix {
    type Err = ReceiptIdError;

    fn from_str(text: &str) -> Result<Self, ReceiptIdError> {
        let digits = text.strip_prefix("r-").ok_or(ReceiptIdError)?;
        let missing = u32::try_from(digits.len())
            .ok()
            .and_then(|n| DIGITS.checked_sub(n));
        let missing = missing.filter(|n| *n < DIGITS).ok_or(ReceiptIdError)? * 5;
        let mut value = 0;
        for character in digits.bytes() {
            value = value << 5 | digit(character).ok_or(ReceiptIdError)?;
        }
        let low = value << missing;
        Ok(Self {
            low,
            high: low | ((1 << missing) - 1),
        })
    }
}

impl ReceiptPrefix {
    /// Whether a receipt starts like this.
    #[must_use]
    pub fn matches(&self, receipt: &ReceiptId) -> bool {
        (self.low..=self.high).contains(&receipt.0)
    }

    /// The first eight bytes, as numbers, of the lowest and highest leaf hash that match.
    pub(crate) fn hash_range(&self) -> (u64, u64) {
        (self.low << 4, self.high << 4 | 15)
    }
}

impl From<ReceiptId> for ReceiptPrefix {
    fn from(receipt: ReceiptId) -> Self {
        Self {
            low: receipt.0,
            high: receipt.0,
        }
    }
}

fn first_60_bits(hash: &Hash) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *hash;
    u64::from_be_bytes([a, b, c, d, e, f, g, h]) >> 4
}

fn digit(character: u8) -> Option<u64> {
    let character = match character.to_ascii_lowercase() {
        b'i' | b'l' => b'1',
        b'o' => b'0',
        other => other,
    };
    ALPHABET
        .iter()
        .position(|c| *c == character)
        .map(|value| value as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(text: &str) -> Hash {
        let mut hash = [0x5a; 32];
        hex::decode_to_slice(text, &mut hash[..8]).unwrap();
        hash
    }

    #[test]
    fn twelve_characters_of_the_first_sixty_bits() {
        for (bytes, shown) in [
            ("0000000000000000", "r-000000000000"),
            ("000000000000000f", "r-000000000000"),
            ("0000000000000010", "r-000000000001"),
            ("ffffffffffffffff", "r-zzzzzzzzzzzz"),
            ("00443214c7425525", "r-0123456789aj"),
        ] {
            let id = ReceiptId::from(&hash(bytes));
            assert_eq!(id.to_string(), shown);
            assert_eq!(shown.parse(), Ok(id));
            assert_eq!(shown.to_uppercase().replace("R-", "r-").parse(), Ok(id));
        }
        assert_eq!(
            "r-oO0iIlL11111".parse::<ReceiptId>(),
            "r-000111111111".parse()
        );
    }

    #[test]
    fn prefixes_match_what_starts_like_them() {
        let id: ReceiptId = "r-4f2k9q7xw3bt".parse().unwrap();
        for good in ["r-4", "r-4f2", "r-4f2k9q7xw3b", "r-4f2k9q7xw3bt"] {
            assert!(
                good.parse::<ReceiptPrefix>().unwrap().matches(&id),
                "{good}"
            );
        }
        for other in ["r-5", "r-4f3", "r-4f2k9q7xw3bs"] {
            assert!(
                !other.parse::<ReceiptPrefix>().unwrap().matches(&id),
                "{other}"
            );
        }
        for bad in [
            "",
            "r",
            "r-",
            "4f2",
            "r-u",
            "r-4f2k9q7xw3btt",
            "r-é",
            "r-4 ",
            "R-4",
        ] {
            assert!(bad.parse::<ReceiptPrefix>().is_err(), "{bad}");
        }
        assert!("r-4f2".parse::<ReceiptId>().is_err());
    }
}
