use super::Projection;
use crate::vocabulary::Digest;
use serde::Deserialize;
use serde::Serialize;
use std::collections::BTreeMap;

/// What a snapshot is compiled from, and what is kept so that any decision can be made again.
///
/// It holds no secret: secrets come into a configuration by name only.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bundle {
    /// Whether it may only decide in development.
    pub dev: bool,
    /// The system user who administers a development instance that names no administrator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dev_operator: Option<String>,
    /// The configuration file to start from.
    pub entry: String,
    /// The configuration files by name.
    pub files: BTreeMap<String, String>,
    /// The server's own node: system users there administer as identities of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// What it is a part of, if it is a part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub projection: Option<Projection>,
    /// SHA-256 of each trusted root certificate (DER).
    pub roots: Vec<Digest>,
    /// The synthetic snapshot of `ZT_OFF`: all edges, one subject with all roles.
    #[serde(default)]
    pub zt_off: bool,
}

/// Why a kept bundle can't be read.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// Not the JSON of a bundle.
    #[error("not a policy bundle: {0}")]
    Form(#[from] serde_json::Error),
    /// The bytes are not those of the revision asked for.
    #[error("the bundle has revision `{found}`, not `{wanted}`")]
    Revision {
        /// What was asked for.
        wanted: Digest,
        /// What the bytes hash to.
        found: Digest,
    },
}

impl Bundle {
    /// The canonical bytes, which the revision is the SHA-256 of.
    ///
    /// Fields are declared in sorted order and the maps are sorted, so this is RFC 8785.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        // A bundle is strings, booleans and sorted maps of strings, which always serialise.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// SHA-256 of [`bytes`](Self::bytes).
    #[must_use]
    pub fn revision(&self) -> Digest {
        revision_of(&self.bytes())
    }

    /// Reads kept bytes, which must be those of `wanted`.
    ///
    /// # Errors
    /// [`BundleError`] if they are not, or are no bundle.
    pub fn read(bytes: &[u8], wanted: &Digest) -> Result<Self, BundleError> {
        let found = revision_of(bytes);
        if found != *wanted {
            return Err(BundleError::Revision {
                wanted: *wanted,
                found,
            });
        }
        Ok(serde_json::from_slice(bytes)?)
    }
}

fn revision_of(bytes: &[u8]) -> Digest {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    let mut out = [0; 32];
    out.copy_from_slice(digest.as_ref());
    Digest::new(out)
}
