//! `up --to URL`: a configuration of three lines that nobody has to write.

/// Why an address can't be put behind a door.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamError {
    /// Not a URL or `host:port`.
    #[error("`{0}` is no address: write `localhost:8000` or `https://host:port`")]
    Form(String),
}

/// The configuration in which everybody who signs in may call what is at `to`.
///
/// A bare `host:port` is taken for plain HTTP, which the language allows to loopback only.
///
/// # Errors
/// [`UpstreamError::Form`] if `to` can't be an address; the language says the rest.
pub fn configuration_for(to: &str) -> Result<String, UpstreamError> {
    let url = match to.split_once("://") {
        Some(("http" | "https", _)) => to.trim_end_matches('/').to_owned(),
        Some(_) => return Err(UpstreamError::Form(to.to_owned())),
        None => format!("http://{}", to.trim_end_matches('/')),
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || ":/.-_[]~".contains(c);
    if to.is_empty() || !url.chars().all(plain) {
        return Err(UpstreamError::Form(to.to_owned()));
    }
    Ok(format!(
        "listeners: {{ web: {{ bind: \"127.0.0.1:8443\", peer: browser, login: dev }} }}\n\
         services:  {{ app: {{ peer: service, url: \"{url}\", needs: edge }} }}\n\
         edges:     {{ web -> app: [GET /**, POST /**, PUT /**, PATCH /**, DELETE /**] }}\n"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use countersign_core::config::Options;
    use countersign_core::config::load_text;

    #[test]
    fn what_it_writes_is_accepted() {
        for to in [
            "localhost:8000",
            "127.0.0.1:8000",
            "http://localhost:8000/",
            "http://[::1]:80",
        ] {
            let text = configuration_for(to).unwrap();
            let loaded = load_text(
                "--to",
                text,
                &Options {
                    dev: true,
                    strict: false,
                },
            );
            assert!(loaded.config.is_some(), "{to}: {:?}", loaded.diagnostics);
        }
    }

    #[test]
    fn nothing_but_an_address_gets_into_the_file() {
        for to in [
            "",
            "ftp://x",
            "a\"b:1",
            "a:1, b: 2",
            "a:1\n",
            "user@host:1",
            "x?y",
        ] {
            assert_eq!(
                configuration_for(to),
                Err(UpstreamError::Form(to.to_owned())),
                "{to}"
            );
        }
    }

    #[test]
    fn plain_http_beyond_loopback_stays_refused() {
        let text = configuration_for("app.internal:8000").unwrap();
        let loaded = load_text(
            "--to",
            text,
            &Options {
                dev: true,
                strict: false,
            },
        );
        assert!(loaded.config.is_none());
    }
}
