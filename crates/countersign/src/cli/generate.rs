//! What is made from the declaration of the command line: completions and man pages.

use super::args::Cli;
use super::args::CompletionsArgs;
use super::args::ManArgs;
use super::ui::Ui;
use crate::operate::Failure;
use clap::CommandFactory;

/// `completions SHELL`.
pub(crate) fn completions(args: &CompletionsArgs, ui: &mut Ui<'_>) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "countersign", &mut script);
    ui.bytes(&script)
}

/// `man FOLDER`: one page for each command.
pub(crate) fn man(args: &ManArgs, ui: &mut Ui<'_>) -> Result<(), Failure> {
    let failed = |error: std::io::Error| {
        Failure::failed(format!(
            "can't write to `{}`: {error}",
            args.folder.display()
        ))
    };
    std::fs::create_dir_all(&args.folder).map_err(failed)?;
    clap_mangen::generate_to(Cli::command(), &args.folder).map_err(failed)?;
    ui.note(&format!("wrote man pages to `{}`", args.folder.display()));
    Ok(())
}
