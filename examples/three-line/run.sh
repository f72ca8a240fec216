#!/usr/bin/env bash
# Three lines of configuration in front of an application that knows nothing of them. `./run.sh`
# starts both and waits for Ctrl-C; `./run.sh --check` plays what works and what must not, and stops.
set -euo pipefail
cd "$(dirname "$0")"
. ../lib.sh

ports 8443 8000 7443
with_ports countersign.yaml >"$data/countersign.yaml"
cs check --dev --strict >"$data/check.log" 2>&1 || fail "countersign check"

# The application: Python's own file server, as it comes.
start app python3 -u -m http.server --bind 127.0.0.1 --directory site "${port[8000]}"
until_true "the application listened" app listens "${port[8000]}"
up
door=https://localhost:${port[8443]}

if ! $check; then
    stay "firefox $door/        # or any browser; it has to trust $roots" \
        "curl --cacert $roots -i $door/" \
        "$countersign audit tail"
    exit
fi

refused "nobody in particular asks for the page" "$(browse "$door/")" CSD217
answer=$(browse -H 'Accept: text/html' "$door/")
grep -qi '^location: /.countersign/login' <<<"$answer" || fail "a browser without a session: $answer"
say "sent on           a browser without a session, to the page where people sign in ($(receipt_of "$answer"))"

sign_in user:dev/developer jar
allowed "the developer reads the page" "$(ask jar GET /)" 'Hello from an application'

# The door lets it through; that the application has no answer to it is the application's affair.
answer=$(ask jar POST /)
head -n 1 <<<"$answer" | grep -q ' 501' || fail "a POST: $answer"
say "passed on         a POST, to which the application says 501 itself ($(receipt_of "$answer"))"

refused "the developer deletes the page: no edge has DELETE" "$(ask jar DELETE /index.html)" CSD401
deletion=$receipt
! grep -q DELETE "$data/app.log" || fail "the application saw the DELETE"
refused "a page of another site posts with the cookie" \
    "$(browse -b "$data/jar" -H 'Sec-Fetch-Site: cross-site' -d x=y "$door/")" CSD218
refused "a path that can be read in two ways" "$(ask jar GET /..%2findex.html)" CSD402

proved "$deletion"
tampered "$deletion" DELETE GET
say OK
