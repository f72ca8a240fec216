//! The environment variables that OpenTelemetry defines (SDK configuration and OTLP exporter).

use http::HeaderName;
use http::HeaderValue;
use http::Uri;
use std::path::PathBuf;
use std::time::Duration;

/// How and where traces are sent.
#[derive(Debug)]
pub(super) struct Settings {
    /// Spans of one request to the collector, at most.
    pub(super) batch: usize,
    /// Further certificate authorities for the collector (PEM).
    pub(super) certificate: Option<PathBuf>,
    /// How long a span waits for others to go with it.
    pub(super) delay: Duration,
    pub(super) endpoint: Endpoint,
    /// Fields for the collector; their values may be credentials and are marked so.
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    /// Spans that wait, at most.
    pub(super) queue: usize,
    pub(super) resource: Vec<(String, String)>,
    pub(super) sampler: Sampler,
    /// How long a request to the collector may take.
    pub(super) timeout: Duration,
}

/// Where the collector is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub(super) host: String,
    pub(super) path: String,
    pub(super) port: u16,
    pub(super) tls: bool,
}

/// Which requests are traced.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Sampler {
    /// Whether a proven caller's own word decides.
    pub(super) parent: bool,
    /// The share of the rest, of 2^56.
    pub(super) below: u64,
}

/// Why the settings can't be used. It has no value in it: one may be a credential.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SettingsError {
    /// Not a number, a list or an address.
    #[error("`{0}` can't be read")]
    Unreadable(&'static str),
    /// Another protocol.
    #[error("`{0}` is not `http/protobuf`, which is how traces are sent")]
    Protocol(&'static str),
    /// A sampler that is not known.
    #[error(
        "`OTEL_TRACES_SAMPLER` is none of always_on, always_off, traceidratio, parentbased_always_on, parentbased_always_off, parentbased_traceidratio"
    )]
    Sampler,
    /// Traces without encryption.
    #[error(
        "`{0}` is `http://` and not on loopback: a collector elsewhere is reached by `https://`"
    )]
    Plain(&'static str),
}

const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const TRACES_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
/// All of a ratio: random bits of a trace id that samplers compare (56 of them).
const ALL: u64 = 1 << 56;

impl Settings {
    /// Reads the settings; none if no collector is named, or tracing is switched off.
    ///
    /// # Errors
    /// [`SettingsError`] names the variable.
    pub(super) fn read(
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, SettingsError> {
        let set = |name: &str| variable(name).filter(|it| !it.trim().is_empty());
        let off = set("OTEL_SDK_DISABLED").is_some_and(|it| it.eq_ignore_ascii_case("true"))
            || set("OTEL_TRACES_EXPORTER").is_some_and(|it| it == "none");
        let endpoint = match (set(TRACES_ENDPOINT), set(ENDPOINT)) {
            _ if off => return Ok(None),
            (Some(whole), _) => Endpoint::parse(TRACES_ENDPOINT, &whole, "")?,
            (None, Some(base)) => Endpoint::parse(ENDPOINT, &base, "v1/traces")?,
            (None, None) => return Ok(None),
        };
        for name in [
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
            "OTEL_EXPORTER_OTLP_PROTOCOL",
        ] {
            match set(name).as_deref() {
                None => continue,
                Some("http/protobuf") => break,
                Some(_) => return Err(SettingsError::Protocol(name)),
            }
        }
        let number = |name: &'static str, default: u64| {
            let value = set(name).map(|it| it.trim().parse());
            value.map_or(Ok(default), |it| {
                it.map_err(|_| SettingsError::Unreadable(name))
            })
        };
        let few = |name: &'static str, default: u64| {
            let number = number(name, default)?;
            let number = usize::try_from(number).ok().filter(|it| *it > 0);
            number.ok_or(SettingsError::Unreadable(name))
        };
        let timeout = number("OTEL_EXPORTER_OTLP_TIMEOUT", 10_000)?;
        let timeout = number("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", timeout)?;
        let certificate = set("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE")
            .or_else(|| set("OTEL_EXPORTER_OTLP_CERTIFICATE"));
        Ok(Some(Self {
            batch: few("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512)?,
            certificate: certificate.map(PathBuf::from),
            delay: Duration::from_millis(number("OTEL_BSP_SCHEDULE_DELAY", 5_000)?),
            endpoint,
            headers: headers(&set)?,
            queue: few("OTEL_BSP_MAX_QUEUE_SIZE", 2_048)?,
            resource: resource(&set)?,
            sampler: Sampler::read(&set)?,
            timeout: Duration::from_millis(timeout),
        }))
    }
}

impl Endpoint {
    fn parse(name: &'static str, text: &str, below: &str) -> Result<Self, SettingsError> {
        let unreadable = SettingsError::Unreadable(name);
        let uri: Uri = text.trim().parse().map_err(|_| unreadable.clone())?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(unreadable),
        };
        let host = uri.host().unwrap_or_default();
        let host = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        let credentials = uri.authority().is_some_and(|it| it.as_str().contains('@'));
        if host.is_empty() || credentials || uri.query().is_some() {
            return Err(unreadable);
        }
        let address = host.parse::<std::net::IpAddr>();
        let loopback = address.is_ok_and(|it| it.to_canonical().is_loopback())
            || host.eq_ignore_ascii_case("localhost");
        if !tls && !loopback {
            return Err(SettingsError::Plain(name));
        }
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let path = match (uri.path(), below) {
            (path, "") => path.to_owned(),
            (path, below) => format!("{}/{below}", path.trim_end_matches('/')),
        };
        Ok(Self {
            host,
            path,
            port,
            tls,
        })
    }
}

impl Sampler {
    fn read(set: &impl Fn(&str) -> Option<String>) -> Result<Self, SettingsError> {
        let ratio = || {
            let text = set("OTEL_TRACES_SAMPLER_ARG");
            let ratio = text.map_or(Ok(1.0), |it| it.trim().parse::<f64>());
            let ratio = ratio.ok().filter(|it| (0.0..=1.0).contains(it));
            let ratio = ratio.ok_or(SettingsError::Unreadable("OTEL_TRACES_SAMPLER_ARG"))?;
            Ok(share(ratio))
        };
        let name = set("OTEL_TRACES_SAMPLER");
        let name = name.as_deref().unwrap_or("parentbased_always_on");
        let (parent, name) = match name.strip_prefix("parentbased_") {
            Some(rest) => (true, rest),
            None => (false, name),
        };
        let below = match name {
            "always_on" => ALL,
            "always_off" => 0,
            "traceidratio" => ratio()?,
            _ => return Err(SettingsError::Sampler),
        };
        Ok(Self { parent, below })
    }

    /// Whether a trace is taken. The last 56 bits of its id are random (W3C Trace Context level 2,
    /// section 3.2.2.3), so that all who see it with the same ratio agree.
    pub(super) fn takes(self, trace: &str, parent: Option<bool>) -> bool {
        if let Some(parent) = parent.filter(|_| self.parent) {
            return parent;
        }
        let random = trace.get(18..32).map(|it| u64::from_str_radix(it, 16));
        self.below > 0 && random.is_some_and(|it| it.is_ok_and(|it| it < self.below))
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a ratio between 0 and 1 of a power of two"
)]
fn share(ratio: f64) -> u64 {
    (ratio * ALL as f64) as u64
}

fn headers(
    set: &impl Fn(&str) -> Option<String>,
) -> Result<Vec<(HeaderName, HeaderValue)>, SettingsError> {
    let name = "OTEL_EXPORTER_OTLP_TRACES_HEADERS";
    let (name, text) = match set(name) {
        Some(text) => (name, Some(text)),
        None => {
            let name = "OTEL_EXPORTER_OTLP_HEADERS";
            (name, set(name))
        }
    };
    let pairs = pairs(name, text.as_deref().unwrap_or_default())?;
    let fields = pairs.into_iter().map(|(key, value)| {
        let key = HeaderName::from_bytes(key.as_bytes()).ok()?;
        let mut value = HeaderValue::from_str(&value).ok()?;
        value.set_sensitive(true);
        Some((key, value))
    });
    let fields: Option<Vec<_>> = fields.collect();
    fields.ok_or(SettingsError::Unreadable(name))
}

fn resource(set: &impl Fn(&str) -> Option<String>) -> Result<Vec<(String, String)>, SettingsError> {
    let name = "OTEL_RESOURCE_ATTRIBUTES";
    let mut resource = pairs(name, set(name).as_deref().unwrap_or_default())?;
    if let Some(service) = set("OTEL_SERVICE_NAME") {
        resource.retain(|(key, _)| key != "service.name");
        resource.push(("service.name".to_owned(), service));
    }
    Ok(resource)
}

/// `key=value,key=value`, percent-encoded (W3C Baggage section 3.3.1).
fn pairs(name: &'static str, text: &str) -> Result<Vec<(String, String)>, SettingsError> {
    let members = text.split(',').map(str::trim).filter(|it| !it.is_empty());
    let pairs = members.map(|member| {
        let (key, value) = member.split_once('=')?;
        let key = key.trim();
        (!key.is_empty()).then_some(())?;
        Some((key.to_owned(), decoded(value.trim())?))
    });
    let pairs: Option<Vec<_>> = pairs.collect();
    pairs.ok_or(SettingsError::Unreadable(name))
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digit = |it: Option<u8>| char::from(it?).to_digit(16);
            let (high, low) = (digit(rest.next())?, digit(rest.next())?);
            bytes.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Option<Settings>, SettingsError> {
        Settings::read(|name| {
            let mut found = variables.iter();
            found
                .find(|(it, _)| *it == name)
                .map(|(_, value)| (*value).to_owned())
        })
    }

    fn on(more: &[(&str, &str)]) -> Result<Settings, SettingsError> {
        let endpoint = [(ENDPOINT, "http://localhost:4318")];
        read(&[&endpoint, more].concat()).map(Option::unwrap)
    }

    #[test]
    fn off_unless_a_collector_is_named() {
        assert!(read(&[]).unwrap().is_none());
        assert!(read(&[(ENDPOINT, " ")]).unwrap().is_none());
        let named = (ENDPOINT, "http://localhost:4318");
        assert!(read(&[named]).unwrap().is_some());
        for off in [
            ("OTEL_SDK_DISABLED", "TRUE"),
            ("OTEL_TRACES_EXPORTER", "none"),
        ] {
            assert!(read(&[named, off]).unwrap().is_none(), "{off:?}");
        }
    }

    #[test]
    fn an_endpoint_of_all_signals_gets_the_path_of_traces() {
        let endpoint = |name, text| read(&[(name, text)]).map(|it| it.unwrap().endpoint);
        let at = |path: &str| Endpoint {
            host: "127.0.0.1".to_owned(),
            path: path.to_owned(),
            port: 4318,
            tls: false,
        };
        let base = endpoint(ENDPOINT, "http://127.0.0.1:4318");
        assert_eq!(base, Ok(at("/v1/traces")));
        let below = endpoint(ENDPOINT, "http://127.0.0.1:4318/otlp/");
        assert_eq!(below, Ok(at("/otlp/v1/traces")));
        let whole = endpoint(TRACES_ENDPOINT, "http://127.0.0.1:4318/here");
        assert_eq!(whole, Ok(at("/here")));
        let plain = SettingsError::Plain(ENDPOINT);
        let elsewhere = endpoint(ENDPOINT, "http://collector.example:4318");
        assert_eq!(elsewhere, Err(plain));
        assert!(endpoint(ENDPOINT, "https://collector.example").is_ok());
        for bad in [
            "collector:4318",
            "ftp://localhost",
            "https://user:secret@collector.example",
            "https://",
        ] {
            let error = endpoint(ENDPOINT, bad).unwrap_err();
            assert!(!error.to_string().contains("secret"), "{bad}");
        }
    }

    #[test]
    fn lists_are_percent_decoded_and_a_credential_is_not_shown() {
        let headers = (
            "OTEL_EXPORTER_OTLP_HEADERS",
            "authorization=Basic%20a%3D, x-a=1",
        );
        let settings = on(&[headers]).unwrap();
        let [(name, value), _] = settings.headers.as_slice() else {
            panic!("{settings:?}");
        };
        assert_eq!(
            (name.as_str(), value.as_bytes()),
            ("authorization", &b"Basic a="[..])
        );
        assert!(!format!("{settings:?}").contains("Basic"));
        for bad in ["nothing", "a b=1", "x=%zz", "=1"] {
            let error = on(&[("OTEL_EXPORTER_OTLP_HEADERS", bad)]).unwrap_err();
            assert_eq!(
                error,
                SettingsError::Unreadable("OTEL_EXPORTER_OTLP_HEADERS")
            );
        }
        let names = [
            ("OTEL_RESOURCE_ATTRIBUTES", "service.name=a,zone=b"),
            ("OTEL_SERVICE_NAME", "c"),
        ];
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let resource = on(&names).unwrap().resource;
        assert_eq!(resource, [pair("zone", "b"), pair("service.name", "c")]);
    }

    #[test]
    fn other_protocols_and_nonsense_are_refused_by_name() {
        for (name, value) in [
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
            ("OTEL_BSP_SCHEDULE_DELAY", "soon"),
            ("OTEL_TRACES_SAMPLER", "sometimes"),
        ] {
            let error = on(&[(name, value)]).unwrap_err();
            assert!(error.to_string().contains(name), "{error}");
        }
        let of_traces = [
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf"),
        ];
        assert!(on(&of_traces).is_ok(), "the one for traces counts");
    }

    #[test]
    fn samplers() {
        let high = format!("{:0>18}{}", "", "f".repeat(14));
        let low = format!("{:0>18}{}", "", "0".repeat(14));
        let takes = |sampler: &[(&str, &str)], trace: &str, parent| {
            on(sampler).unwrap().sampler.takes(trace, parent)
        };
        assert!(takes(&[], &high, None) && takes(&[], &high, Some(true)));
        assert!(!takes(&[], &low, Some(false)), "the caller's word counts");
        let ratio = [
            ("OTEL_TRACES_SAMPLER", "traceidratio"),
            ("OTEL_TRACES_SAMPLER_ARG", "0.5"),
        ];
        assert!(takes(&ratio, &low, Some(false)) && !takes(&ratio, &high, Some(true)));
        let off = [("OTEL_TRACES_SAMPLER", "always_off")];
        assert!(!takes(&off, &low, Some(true)));
        let wrong = [
            ("OTEL_TRACES_SAMPLER", "traceidratio"),
            ("OTEL_TRACES_SAMPLER_ARG", "2"),
        ];
        assert!(on(&wrong).is_err());
    }
}
