//! An installation, its application, and a caller with a token.

use crate::application::Application;
use crate::door::Connection;
use crate::door::Door;
use crate::site::Running;
use crate::site::Site;
use bytes::Bytes;
use http::Response;
use std::io::Read as _;
use std::io::Write as _;
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

/// Ends what hangs; no measure of how fast anything is.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

pub(crate) struct Scene {
    pub(crate) application: Application,
    pub(crate) identity: PathBuf,
    pub(crate) running: Running,
    pub(crate) site: Site,
}

/// An answer as it came over the wire.
#[derive(Debug)]
pub(crate) struct Raw {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Scene {
    pub(crate) fn new(env: &[(&str, &str)]) -> Self {
        Self::by(&[], env)
    }

    /// Started by another program.
    pub(crate) fn by(wrapper: &[&str], env: &[(&str, &str)]) -> Self {
        let application = Application::start();
        let site = site(application.port);
        let metrics = [("COUNTERSIGN_METRICS", "127.0.0.1:0")];
        let running = site.up_by(wrapper, &[&metrics, env].concat());
        let (identity, _) = site.issue("caller");
        Self {
            application,
            identity,
            running,
            site,
        }
    }

    /// `GET` of the socket for health and metrics.
    pub(crate) fn get(&self, path: &str) -> Raw {
        self.ask(&format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n"))
    }

    /// Sends this, and reads to the end.
    pub(crate) fn ask(&self, request: &str) -> Raw {
        let address = self.running.started["metrics"].as_str().unwrap();
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Raw {
            status,
            head: head.to_ascii_lowercase(),
            body: body.to_owned(),
        }
    }

    /// Asks again and again until it is so.
    pub(crate) async fn until(&self, path: &str, so: impl Fn(&Raw) -> bool) -> Raw {
        let begun = Instant::now();
        loop {
            let answer = self.get(path);
            if so(&answer) {
                return answer;
            }
            assert!(begun.elapsed() < PATIENCE, "{path}: {answer:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// A token of the caller for `api`.
    pub(crate) fn token(&self) -> String {
        let folder = self.identity.to_str().unwrap();
        let ask = ["token", "--for", "api", "--scope", "item:read"];
        let token = self.site.ok(&[&ask[..], &["--identity", folder]].concat());
        token.trim().to_owned()
    }

    /// A connection of the caller to the mesh door.
    pub(crate) async fn mesh(&self) -> Connection {
        let door = Door::mesh(&self.identity, "api", self.site.mesh);
        door.http1().await.unwrap()
    }

    /// A call of `api` by the caller.
    pub(crate) async fn call(&self, path: &str, token: &str) -> Response<Bytes> {
        self.mesh().await.get(path, token).await.unwrap()
    }
}

/// One service that the caller may read from, and a secret.
pub(crate) fn site(port: u16) -> Site {
    Site::new(&format!(
        r#"identities: {{ caller: {{}}, page: {{}} }}
roles: {{ reader: {{ members: [caller, user:alice], may: ["item:read", "mail:key:read"] }} }}
services:
  api:
    peer: service
    url: "http://127.0.0.1:{port}"
    operations:
      GET /items/**: {{ needs: "item:read" }}
      POST /items: {{ needs: "item:read", body: {{ max: 64KiB }} }}
  page:
    peer: service
    url: "http://127.0.0.1:{port}"
    operations: {{ GET /app/**: {{ needs: "item:read" }} }}
edges:
  caller -> api: [GET /items/**, POST /items]
  caller -> vault: [read mailer]
  web -> page: [GET /app/**]
secrets:
  mailer: {{ from: "store:mailer", needs: "mail:key:read", readers: [caller] }}
"#
    ))
}
