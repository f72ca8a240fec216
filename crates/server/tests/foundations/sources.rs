//! Secrets from each kind of source.

use crate::support::Data;
use crate::support::NOW;
use countersign_core::config::SecretSource;
use countersign_server::secret_sources::SecretSources;
use countersign_server::vault::SecretData;
use countersign_server::vault::Vault;
use secrecy::ExposeSecret as _;
use secrecy::SecretString;
use std::sync::Arc;

#[tokio::test]
async fn each_kind_gives_its_value_and_says_what_is_missing() {
    let data = Data::new();
    let keys = data.keys();
    let vault = Arc::new(Vault::open(data.store().await, keys.root()).await.unwrap());
    let value = SecretData::from_value(SecretString::from("from the vault")).unwrap();
    vault.put("mailer", &value, None, NOW).await.unwrap();
    let path = data.path().join("secret.txt");
    std::fs::write(&path, "from a file\n").unwrap();
    let path = path.display().to_string();
    let sources = SecretSources::new(vault);
    for (source, expected, version) in [
        (SecretSource::Store("mailer".into()), "from the vault", 1),
        (SecretSource::File(path.clone()), "from a file", 0),
        // Set by cargo for every test.
        (
            SecretSource::Env("CARGO_PKG_NAME".into()),
            "countersign-server",
            0,
        ),
    ] {
        let read = sources.read(&source, None).await.unwrap();
        assert_eq!(read.version, version);
        assert_eq!(read.data.value().unwrap().expose_secret(), expected);
        let error = sources.read(&source, Some(9)).await.unwrap_err();
        assert!(error.is_not_found(), "{error}");
    }
    for missing in [
        SecretSource::Store("none".into()),
        SecretSource::Env("COUNTERSIGN_NO_SUCH_VARIABLE".into()),
        SecretSource::File(format!("{path}.none")),
    ] {
        let error = sources.read(&missing, None).await.unwrap_err();
        assert!(!error.to_string().is_empty());
    }
}

#[tokio::test]
async fn a_file_that_is_no_short_text_is_refused() {
    let data = Data::new();
    let keys = data.keys();
    let vault = Arc::new(Vault::open(data.store().await, keys.root()).await.unwrap());
    let sources = SecretSources::new(vault);
    let path = data.path().join("secret.bin");
    for content in [vec![0xff, 0xfe], vec![b'x'; 64 * 1024 + 1]] {
        std::fs::write(&path, content).unwrap();
        let source = SecretSource::File(path.display().to_string());
        let error = sources.read(&source, None).await.unwrap_err();
        assert!(error.to_string().contains("secret.bin"), "{error}");
    }
}
