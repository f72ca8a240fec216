//! `file: PATH`: a file of the server, read at each use so that a replaced one counts at once.

use super::Reading;
use super::Source;
use super::SourceError;
use super::unversioned;
use secrecy::SecretString;
use tokio::io::AsyncReadExt as _;
use zeroize::Zeroizing;

/// The longest file.
const MAX: usize = 64 * 1024;

pub(super) struct TextFile {
    pub(super) path: String,
}

impl Source for TextFile {
    fn read(&self, version: Option<u64>) -> Reading<'_> {
        Box::pin(async move {
            let error = |source| SourceError::File {
                path: self.path.clone(),
                source,
            };
            let file = tokio::fs::File::open(&self.path).await.map_err(error)?;
            // Room from the start: growing would leave copies behind.
            let mut bytes = Zeroizing::new(Vec::with_capacity(MAX + 1));
            file.take(MAX as u64 + 1)
                .read_to_end(&mut bytes)
                .await
                .map_err(error)?;
            let text = std::str::from_utf8(&bytes)
                .ok()
                .filter(|text| text.len() <= MAX);
            let text = text.ok_or_else(|| SourceError::Text(self.path.clone()))?;
            // Editors and `echo` end a file with a line feed that is no part of the secret.
            let text = text.strip_suffix('\n').unwrap_or(text);
            let text = text.strip_suffix('\r').unwrap_or(text);
            unversioned(SecretString::from(text), version)
        })
    }
}
