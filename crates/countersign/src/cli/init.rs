//! `init`: a configuration to start from, and the certificate authority of its trust domain.

use super::args::Globals;
use super::check;
use super::ui::Answer;
use super::ui::Style;
use super::ui::Ui;
use super::up;
use crate::boot::Places;
use crate::operate::Failure;
use crate::operate::with_causes;
use countersign_core::config::Environment;
use countersign_core::config::Options;
use countersign_core::config::load_text;
use serde_json::json;
use std::io::Write as _;
use std::path::Path;
use std::path::PathBuf;

/// The configuration that is written.
const TEXT: &str = include_str!("init.yaml");
const FILE: &str = "countersign.yaml";

/// `init`.
pub(crate) async fn run(globals: &Globals, ui: &mut Ui<'_>) -> Result<(), Failure> {
    let path = globals
        .config
        .clone()
        .unwrap_or_else(|| PathBuf::from(FILE));
    let file = globals.config.as_deref();
    let data = globals.data.as_deref();
    let places = Places::new(Environment::Dev, file, data, globals.socket.as_deref());
    if places.data.join("keys").exists() {
        let text = format!("`{}` has keys already", places.data.display());
        return Err(Failure::failed(text).with_help(
            "whoever replaces them replaces the whole installation: remove the folder yourself",
        ));
    }
    let loaded = load_text(&path.display().to_string(), TEXT, &Options::default());
    let (config, sources) = check::require(loaded, ui)?;
    write_new(&path)?;
    let made = up::create(&config, &sources, &places, ui).await?;
    let (tick, next) = (ui.paint(Style::Good, "✔"), ui.paint(Style::Bold, "next:"));
    let (domain, data) = (config.trust_domain.as_str(), places.data.display());
    let count = |number: usize, what: &str| format!("{number} {what}");
    let text = format!(
        "  {tick} {}   {}, {}, {}\n  {tick} CA {domain}   in {data}/keys, root {}\n  \
         {tick} log key {}\n\n{next}  countersign check      countersign up",
        path.display(),
        count(config.listeners.len(), "doors"),
        count(config.identities.len(), "identities"),
        count(config.tests.len(), "tests"),
        made.root.short(),
        made.log_key,
    );
    let document = json!({
        "config": path, "data": places.data, "log_key": made.log_key, "root": made.root,
        "trust_domain": domain,
    });
    ui.note("keep the log key somewhere else: `audit verify --key` wants it from outside");
    ui.answer(Answer {
        document,
        schema: "countersign.init/v1",
        short: &made.log_key,
        text: &text,
    })
}

/// Never over a file that is there.
fn write_new(path: &Path) -> Result<(), Failure> {
    let file = std::fs::OpenOptions::new()
        .create_new(true)
        .write(true)
        .open(path);
    file.and_then(|mut file| file.write_all(TEXT.as_bytes()))
        .map_err(|error| {
            let text = format!("can't write `{}`: {}", path.display(), with_causes(&error));
            match error.kind() {
                std::io::ErrorKind::AlreadyExists => {
                    let text = format!("`{}` exists already", path.display());
                    Failure::failed(text).with_help("use it, or name another file with `-c FILE`")
                }
                _ => Failure::failed(text),
            }
        })
}
