//! `cli.md`: every command with its arguments.

use super::MADE;
use super::head;
use super::row;
use crate::cli::args::Cli;
use clap::Arg;
use clap::Command;
use clap::CommandFactory;

pub(super) fn page() -> String {
    let mut root = Cli::command();
    root.build();
    let mut lines = vec![MADE.to_owned(), "# Commands".to_owned()];
    lines.extend(root.get_about().map(ToString::to_string));
    lines.extend(root.get_after_help().map(ToString::to_string));
    let globals = root.get_arguments().filter(|it| it.is_global_set());
    lines.push(format!("## Global options\n\n{}", table(globals)));
    for command in root.get_subcommands().filter(|it| !it.is_hide_set()) {
        section(command, "countersign", &mut lines);
    }
    lines.join("\n\n") + "\n"
}

/// A command, then those below it.
fn section(command: &Command, above: &str, lines: &mut Vec<String>) {
    let name = format!("{above} {}", command.get_name());
    lines.push(format!("## `{name}`"));
    lines.extend(command.get_about().map(|about| format!("{about}.")));
    let own = |it: &&Arg| !it.is_global_set() && !it.is_hide_set() && it.get_id() != "help";
    lines.push(format!("```text\n{}\n```", usage(command, &name)));
    if command.get_arguments().any(|it| own(&it)) {
        lines.push(table(command.get_arguments().filter(own)));
    }
    for below in command.get_subcommands().filter(|it| !it.is_hide_set()) {
        section(below, &name, lines);
    }
}

fn usage(command: &Command, name: &str) -> String {
    let usage = command.clone().bin_name(name).render_usage().to_string();
    let lines = usage
        .lines()
        .map(|line| line.trim_start_matches("Usage: ").trim());
    lines.collect::<Vec<_>>().join("\n")
}

fn table<'a>(arguments: impl Iterator<Item = &'a Arg>) -> String {
    let rows = arguments.map(|it| {
        let help = it.get_help().map(ToString::to_string).unwrap_or_default();
        row([
            &format!("`{}`", written(it)),
            &help,
            &default(it),
            &environment(it),
        ])
    });
    let head = head(["Argument", "Meaning", "Default", "Environment"]);
    [head]
        .into_iter()
        .chain(rows)
        .collect::<Vec<_>>()
        .join("\n")
}

/// `-o, --output <FORMAT>`, or `[PATH]`.
fn written(argument: &Arg) -> String {
    let short = argument.get_short().map(|it| format!("-{it}"));
    let long = argument.get_long().map(|it| format!("--{it}"));
    let flags: Vec<_> = short.into_iter().chain(long).collect();
    let takes = argument.get_action().takes_values();
    let names = argument.get_value_names().unwrap_or_default();
    let names: Vec<_> = names
        .iter()
        .filter(|_| takes)
        .map(|it| format!("<{it}>"))
        .collect();
    match (flags.is_empty(), names.is_empty()) {
        (true, _) => names.join(" "),
        (false, true) => flags.join(", "),
        (false, false) => format!("{} {}", flags.join(", "), names.join(" ")),
    }
}

/// The default, and the words there are where the value is one of a few; flags have neither.
fn default(argument: &Arg) -> String {
    if !argument.get_action().takes_values() {
        return String::new();
    }
    let defaults = argument.get_default_values().iter();
    let defaults = defaults.map(|it| it.to_string_lossy());
    let default: Vec<_> = defaults
        .filter(|it| !it.is_empty())
        .map(|it| format!("`{it}`"))
        .collect();
    let words = argument.get_possible_values();
    let words: Vec<_> = words
        .iter()
        .map(|it| format!("`{}`", it.get_name()))
        .collect();
    match (default.join(" "), words.join(", ")) {
        (default, words) if words.is_empty() => default,
        (default, words) if default.is_empty() => format!("one of {words}"),
        (default, words) => format!("{default}; one of {words}"),
    }
}

fn environment(argument: &Arg) -> String {
    let name = argument.get_env().map(|it| it.to_string_lossy());
    name.map_or_else(String::new, |it| format!("`{it}`"))
}
