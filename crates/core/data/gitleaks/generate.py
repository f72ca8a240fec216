#!/usr/bin/env python3
"""Writes ../../src/credentials/{rules.rs,stopwords.txt} from gitleaks' default configuration.

Usage: generate.py path/to/gitleaks.toml COMMIT, with the commit it was taken from; then `cargo fmt`.
"""

import pathlib
import re
import sys
import tomllib

SOURCE = pathlib.Path(__file__).resolve().parents[2] / "src" / "credentials"

# Rules whose keyword stands somewhere in the file rather than in what the pattern matches.
APART = {
    "airtable-personnal-access-token",
    "cloudflare-origin-ca-key",
    "facebook-access-token",
    "intra42-client-secret",
    "sourcegraph-access-token",
}
# Rules whose keyword may be further from the end of the match than a line or two.
FAR = {
    "curl-auth-header",
    "curl-auth-user",
    "kubernetes-secret-yaml",
    "private-key",
}


def literal(text):
    """A brace that starts no repetition is a brace: Go reads it so, Rust refuses it.

    Named groups are names for alternatives, not the secret, so they capture nothing here.
    """
    text = re.sub(r"\(\?P<\w+>", "(?:", text)
    out, in_class, i = [], False, 0
    while i < len(text):
        c = text[i]
        if c == "\\":
            out.append(text[i : i + 2])
            i += 2
            continue
        if in_class:
            named = re.match(r"\[:\^?[a-z]+:\]", text[i:])
            if named:
                out.append(named[0])
                i += len(named[0])
                continue
            in_class = c != "]" or out[-1] in ("[", "[^")
            # `[`, `&&`, `~~` and `--` have a meaning in a class of Rust's.
            out.append("\\" + c if c in "[&~" else c)
        elif c == "[":
            in_class = True
            out.append("[^" if text[i + 1] == "^" else "[")
            i += len(out[-1])
            continue
        elif c == "{" and not re.match(r"\{\d+(,\d*)?\}", text[i:]):
            out.append(r"\{")
        elif c == "}" and not re.search(r"\{\d+(,\d*)?$", text[:i]):
            out.append(r"\}")
        else:
            out.append(c)
        i += 1
    return "".join(out)


def raw(text):
    hashes = "#"
    while '"' + hashes in text:
        hashes += "#"
    return f'r{hashes}"{text}"{hashes}'


def listed(texts):
    return "&[" + ", ".join(raw(it) for it in texts) + "]"


def allow(entry, stopwords):
    target = {"match": "Target::Match", "line": "Target::Line"}.get(entry.get("regexTarget"), "Target::Secret")
    words = entry.get("stopwords", [])
    many = len(words) > 100
    if many:
        stopwords.extend(words)
    return (
        f"Allow {{ target: {target}, all: {str(entry.get('condition') == 'AND').lower()}, "
        f"regexes: {listed(literal(it) for it in entry.get('regexes', []))}, "
        f"paths: {listed(literal(it) for it in entry.get('paths', []))}, "
        f"stopwords: {listed([] if many else words)}, many_stopwords: {str(many).lower()} }}"
    )


def rule(entry, stopwords):
    window = "Window::Text" if entry["id"] in APART else "Window::Far" if entry["id"] in FAR else "Window::Near"
    allows = ", ".join(allow(it, stopwords) for it in entry.get("allowlists", []))
    return (
        f"Rule {{ id: {raw(entry['id'])}, regex: {raw(literal(entry.get('regex', '')))}, "
        f"path: {raw(literal(entry.get('path', '')))}, "
        f"group: {entry.get('secretGroup', 0)}, entropy: {float(entry.get('entropy', 0))}, "
        f"keywords: {listed(it.lower() for it in entry.get('keywords', []))}, "
        f"window: {window}, allows: &[{allows}] }}"
    )


def main():
    text = pathlib.Path(sys.argv[1]).read_text()
    config, commit, stopwords = tomllib.loads(text), sys.argv[2], []
    rules = ",\n".join(rule(it, stopwords) for it in config["rules"])
    everywhere = allow(config["allowlist"], [])
    head = f"""// long: one line per rule, written by a script
//! The patterns of gitleaks, from <https://github.com/gitleaks/gitleaks> at {commit}.
//!
//! Written by `data/gitleaks/generate.py`; do not edit. MIT licence, Copyright (c) 2019 Zachary
//! Rice: see `data/gitleaks/LICENSE`.

use super::Allow;
use super::Rule;
use super::Target;
use super::Window;

"""
    SOURCE.joinpath("rules.rs").write_text(
        head
        + "/// What is no credential whatever the rule says.\n"
        + f"pub(super) static EVERYWHERE: Allow = {everywhere};\n\n"
        + "/// Every rule.\n"
        + f"pub(super) static RULES: [Rule; {len(config['rules'])}] = [\n{rules}\n];\n"
    )
    SOURCE.joinpath("stopwords.txt").write_text("".join(it + "\n" for it in sorted(set(stopwords))))


main()
