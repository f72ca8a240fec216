//! The reference pages, from the declarations that the program itself runs on.

mod commands;
mod configuration;
mod errors;
pub(super) mod words;

use super::args::ReferenceArgs;
use super::ui::Ui;
use crate::operate::Failure;

/// `reference FOLDER`: every page, and the JSON Schema beside them.
pub(crate) fn run(args: &ReferenceArgs, ui: &mut Ui<'_>) -> Result<(), Failure> {
    let folder = &args.folder;
    let failed = |error: std::io::Error| {
        Failure::failed(format!("can't write to `{}`: {error}", folder.display()))
    };
    std::fs::create_dir_all(folder).map_err(failed)?;
    for (name, text) in pages()? {
        std::fs::write(folder.join(name), text).map_err(failed)?;
    }
    ui.note(&format!("wrote the reference to `{}`", folder.display()));
    Ok(())
}

fn pages() -> Result<[(&'static str, String); 4], Failure> {
    let schema = countersign_core::config::schema::json();
    let schema = serde_json::to_string_pretty(&schema);
    let schema = schema.map_err(|error| Failure::failed(error.to_string()))?;
    Ok([
        ("cli.md", commands::page()),
        ("configuration.md", configuration::page()),
        ("countersign.schema.json", format!("{schema}\n")),
        ("errors.md", errors::page()),
    ])
}

/// Said at the top of each page.
const MADE: &str = "<!-- Made by `cargo xtask docs`; change what it is made from instead. -->";

/// A row of a table; `|` would end a cell.
fn row<const N: usize>(cells: [&str; N]) -> String {
    let cells = cells.map(|cell| cell.replace('|', "\\|").replace('\n', " "));
    format!("| {} |", cells.join(" | "))
}

/// The head of a table.
fn head<const N: usize>(cells: [&str; N]) -> String {
    format!("{}\n{}", row(cells), row(["---"; N]))
}
