#!/usr/bin/env python3
"""Takes gitleaks' own samples out of its rules: what each rule must find, and what it must not.

Usage: extract.py path/to/gitleaks (a work tree), which writes samples.json beside this file. Needs
`rstr`. Where gitleaks draws a random secret from a pattern, so does this, with a fixed seed. Samples
written in Go that is more than texts and the helpers below are left out.
"""

import json
import pathlib
import random
import re
import sys

import rstr

RANDOM = rstr.Rstr(random.Random(8))
HELPERS = {
    "Numeric": "[0-9]{%s}",
    "Hex": "[a-f0-9]{%s}",
    "AlphaNumeric": "[a-z0-9]{%s}",
    "AlphaNumericExtendedShort": "[a-z0-9_-]{%s}",
    "AlphaNumericExtended": r"[a-z0-9=_\-]{%s}",
    "AlphaNumericExtendedLong": r"[a-z0-9\/=_\+\-]{%s}",
}
TOKEN = re.compile(r'\s+|//[^\n]*|`[^`]*`|"(?:\\.|[^"\\])*"|[A-Za-z_][\w.]*|[-+(){}\[\],:=]+?|\d+')


class Unknown(Exception):
    pass


def tokens(text):
    at = 0
    while at < len(text):
        match = TOKEN.match(text, at)
        if not match:
            raise Unknown(text[at : at + 20])
        at = match.end()
        if not match[0].isspace() and not match[0].startswith("//"):
            yield match[0]
    yield ""


class Reader:
    """Reads expressions that are texts, or lists of them."""

    def __init__(self, text, samples):
        self.all, self.at, self.samples = list(tokens(text)), 0, samples

    def take(self, wanted=None):
        token = self.all[self.at]
        if wanted and token != wanted:
            raise Unknown(f"{token} for {wanted}")
        self.at += 1
        return token

    def sum(self):
        value = self.one()
        while self.all[self.at] == "+":
            self.take()
            value += self.one()
        return value

    def arguments(self, close=")"):
        values = []
        while self.all[self.at] != close:
            values.append(self.sum())
            if self.all[self.at] == ",":
                self.take()
        self.take(close)
        return values

    def one(self):
        token = self.take()
        if token.startswith("`"):
            return token[1:-1]
        if token.startswith('"'):
            return json.loads(token.replace("\\'", "'"))
        if token == "[":
            self.take("]"), self.take("string"), self.take("{")
            return self.arguments("}")
        name = token.split(".")[-1]
        if self.all[self.at] != "(":
            raise Unknown(token)
        self.take("(")
        given = self.arguments()
        if name in HELPERS:
            return HELPERS[name] % given[0]
        if name == "Hex8_4_4_4_12":
            return "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
        if name in ("NewSecret", "newPlausibleSecret", "NewSecretWithEntropy"):
            return RANDOM.xeger(re.sub(r"\(\?i\)|\(\?:", lambda it: "" if it[0] == "(?i)" else "(?:", given[0]))
        if name == "GenerateSampleSecret":
            return f'{given[0]}_api_token = "{given[1]}"'
        if name == "GenerateSampleSecrets":
            fill = lambda it: it.replace("{i}", given[0]).replace("{I}", given[0].upper()).replace("{s}", given[1])
            return [fill(it) for it in self.samples]
        raise Unknown(name)


def samples(root):
    text = (root / "cmd/generate/config/utils/generate.go").read_text()
    body = text[text.index("samples := map") : text.index("replacer :=")]
    lines = [line for line in body.splitlines() if not line.strip().startswith("//")]
    # Every rule comes in each of these forms; a few do.
    forms = r'"(?:yaml|ini - quoted1|json|python - double)[^"]*":\s+(`[^`]*`|"(?:\\.|[^"\\])*"),'
    pairs = re.findall(forms, "\n".join(lines))
    return [it[1:-1] if it.startswith("`") else json.loads(it) for it in pairs]


def expression(text, at):
    """From here to the end of the statement."""
    depth, start = 0, at
    while at < len(text):
        token = TOKEN.match(text, at)
        if not token:
            raise Unknown(text[at : at + 20])
        if token[0].isspace() and "\n" in token[0] and depth == 0 and at > start:
            return text[start:at]
        depth += token[0] in ("(", "[", "{")
        depth -= token[0] in (")", "]", "}")
        at = token.end()
    return text[start:]


def main():
    root = pathlib.Path(sys.argv[1])
    given, found, left_out = samples(root), [], 0
    for path in sorted((root / "cmd/generate/config/rules").glob("*.go")):
        for function in re.split(r"\nfunc ", path.read_text()):
            rule = re.search(r'RuleID:\s+"([^"]+)"', function)
            if not rule:
                continue
            for kind in ("tps", "fps"):
                for match in re.finditer(rf"\t{kind} :?= ", function):
                    try:
                        text = expression(function, match.end()).strip()
                        text = re.sub(rf"^append\({kind},", "[]string{", text)
                        text = re.sub(r"\)$", "}", text) if text.startswith("[]string{") and text.endswith(")") else text
                        text = text.replace("...", "")
                        values = Reader(text, given).sum()
                    except (Unknown, ValueError, IndexError, re.error) as _:
                        left_out += 1
                        continue
                    flat = [it for one in values for it in (one if isinstance(one, list) else [one])]
                    found += [{"rule": rule[1], "found": kind == "tps", "text": it} for it in flat]
    out = pathlib.Path(__file__).with_name("samples.json")
    out.write_text("[\n" + ",\n".join(json.dumps(it, ensure_ascii=False) for it in found) + "\n]\n")
    rules = {it["rule"] for it in found if it["found"]}
    print(len(found), "samples of", len(rules), "rules;", left_out, "lists left out")


main()
