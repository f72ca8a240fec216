//! A changed file under a running process: by command and by signal, over restarts and crashes.

use crate::support::Place;
use crate::support::Serving;
use rustix::process::Signal;
use std::net::TcpListener;
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

const PATIENCE: Duration = Duration::from_secs(60);
const UP: [&str; 3] = ["up", "--control", "127.0.0.1:0"];

/// An initialised folder with doors on free ports.
fn place() -> Place {
    let place = Place::new();
    place.line("init").ok();
    let text = text(&place)
        .replace("127.0.0.1:8443", "127.0.0.1:0")
        .replace("127.0.0.1:9443", "127.0.0.1:0");
    write(&place, &text);
    place
}

fn file(place: &Place) -> PathBuf {
    place.path().join("countersign.yaml")
}

fn text(place: &Place) -> String {
    std::fs::read_to_string(file(place)).unwrap()
}

fn write(place: &Place, text: &str) {
    std::fs::write(file(place), text).unwrap();
}

fn status(place: &Place) -> serde_json::Value {
    let status = place.line("status -o json").ok();
    status.document("countersign.status/v1")
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The file with another mesh door, at this address.
fn with_door(text: &str, address: &str) -> String {
    let listeners = "listeners:\n";
    assert!(text.contains(listeners), "{text}");
    let door = format!("{listeners}  extra: {{ bind: \"{address}\", peer: service }}\n");
    text.replacen(listeners, &door, 1)
}

#[expect(clippy::disallowed_methods, reason = "a test of a socket from outside")]
fn accepts(address: &str) -> bool {
    TcpStream::connect(address).is_ok()
}

fn free() -> String {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap().to_string()
}

#[test]
fn doors_follow_the_file_and_what_can_not_be_bound_is_4() {
    let place = place();
    let good = text(&place);
    let _serving = place.serve(&UP, &[]);
    let before = status(&place)["revision"].clone();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    write(&place, &with_door(&good, &address));
    let failed = place.line("reload");
    assert_eq!(failed.code, 4, "{failed:?}");
    assert!(failed.err.contains(&address), "{}", failed.err);
    assert!(failed.err.contains("extra"), "{}", failed.err);
    let now = status(&place);
    assert_eq!(now["revision"], before);
    assert_eq!(now["file"]["drift"], "differs");
    let shown = place.line("status").ok();
    assert!(shown.out.contains("DIFFERS"), "{}", shown.out);
    drop(taken);
    let address = free();
    write(&place, &with_door(&good, &address));
    let tried = place.line("reload --dry-run").ok();
    assert!(tried.out.contains("would be put in force"), "{}", tried.out);
    assert!(!accepts(&address));
    place.line("reload").ok();
    assert!(accepts(&address));
    let now = status(&place);
    assert_eq!(now["file"]["drift"], "none");
    assert!(now["activated_by"].as_str().unwrap().starts_with("unix:"));
    let again = place.line("reload").ok();
    assert!(again.out.contains("nothing to do"), "{}", again.out);
    write(&place, &good);
    place.line("reload").ok();
    until("a removed door stays open", || !accepts(&address));
}

#[test]
fn a_hangup_reloads_or_changes_nothing_and_the_service_manager_is_told() {
    let place = place();
    let socket = place.path().join("notify.sock");
    let manager = UnixDatagram::bind(&socket).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let next = || {
        let mut buffer = [0; 256];
        let length = manager.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    };
    let at = socket.to_str().unwrap().to_owned();
    let serving = place.serve(&UP, &[("NOTIFY_SOCKET", &at)]);
    assert_eq!(next(), "READY=1");
    let (good, before) = (text(&place), status(&place)["revision"].clone());
    let hangup = || {
        serving.signal(Signal::HUP);
        assert!(next().starts_with("RELOADING=1\nMONOTONIC_USEC="));
        assert_eq!(next(), "READY=1");
    };
    write(&place, &good.replace("peer: service", "peer: servant"));
    hangup();
    assert_eq!(status(&place)["revision"], before);
    write(&place, &format!("{good}# changed\n"));
    hangup();
    assert_ne!(status(&place)["revision"], before);
    let tail = || {
        let tail = place.line("audit tail -n 200 -o json").ok();
        tail.out
    };
    until("the reload is not in the log", || {
        let tail = tail();
        tail.contains("config.reload") && tail.contains("sighup") && tail.contains("failure")
    });
    assert_eq!(serving.stop(), 0);
    assert_eq!(next(), "STOPPING=1");
}

#[test]
fn a_restart_serves_the_active_revision_until_a_reload() {
    let place = place();
    let good = text(&place);
    let serving = place.serve(&UP, &[]);
    let active = status(&place)["revision"].clone();
    assert_eq!(serving.stop(), 0);
    write(&place, &format!("{good}# edited while it was down\n"));
    let serving = place.serve(&UP, &[]);
    let now = status(&place);
    assert_eq!(
        (&now["revision"], &now["file"]["drift"]),
        (&active, &"differs".into())
    );
    place.line("reload").ok();
    let reloaded = status(&place);
    assert_ne!(reloaded["revision"], active);
    assert_eq!(serving.stop(), 0);
    write(&place, &format!("{good}# edited again\n"));
    let given = [UP.as_slice(), &["--from-file"]].concat();
    let _serving = place.serve(&given, &[]);
    let now = status(&place);
    assert_eq!(now["file"]["drift"], "none");
    assert_ne!(now["revision"], reloaded["revision"]);
}

/// Wherever it dies in a reload, it comes back on the one revision or the other, and whole.
#[test]
fn killed_in_a_reload_it_comes_back_on_one_of_the_two() {
    let place = place();
    let good = text(&place);
    let mut serving: Serving = place.serve(&UP, &[]);
    let mut known = status(&place)["revision"].clone();
    let mut outcomes = [0, 0];
    for round in 0_u64..10 {
        write(&place, &format!("{good}# round {round}\n"));
        let tried = place.line("reload --dry-run -o json").ok();
        let next = tried.document("countersign.reload/v1")["revision"].clone();
        let mut reload = place.command(&["reload"]);
        let mut reload = reload
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(round * 12));
        serving.signal(Signal::KILL);
        let _ = reload.wait().unwrap();
        drop(serving);
        serving = place.serve(&UP, &[]);
        let now = status(&place)["revision"].clone();
        assert!(
            now == known || now == next,
            "{now} is neither {known} nor {next}"
        );
        outcomes[usize::from(now == next)] += 1;
        known = now;
        // It takes the next one.
        write(&place, &format!("{good}# after {round}\n"));
        place.line("reload").ok();
        known = if known == status(&place)["revision"] {
            panic!("it reloads no more")
        } else {
            status(&place)["revision"].clone()
        };
    }
    assert_eq!(outcomes.iter().sum::<i32>(), 10);
    assert_eq!(serving.stop(), 0);
    place.line("audit verify").ok();
}
