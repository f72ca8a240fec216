#!/usr/bin/env bash
# An existing application behind the door. `./run.sh` starts both and waits for Ctrl-C;
# `./run.sh --check` plays what works and what must not, and stops.
set -euo pipefail
cd "$(dirname "$0")"
. ../lib.sh

ports 8443 7443
with_ports countersign.yaml | sed "s|unix:/run/wiki/wiki.sock|unix:$data/wiki.sock|" >"$data/countersign.yaml"
cs check --dev --strict >"$data/check.log" 2>&1 || fail "countersign check"
up
door=https://localhost:${port[8443]}

# The wiki, on a socket that only this user can open.
cs identity issue wiki --out "$data/wiki" >/dev/null
start wiki env COUNTERSIGN_IDENTITY="$data/wiki" python3 guard.py "$data/wiki.sock"
until_true "the wiki listened" wiki test -S "$data/wiki.sock"
sign_in user:dev/alice alice
sign_in user:dev/grace grace

if ! $check; then
    stay "firefox $door/pages/home        # or any browser; it has to trust $roots" \
        "curl --cacert $roots -b alice -i $door/pages/home" \
        "curl --cacert $roots -b alice $door/request        # what the wiki is told" \
        "curl --cacert $roots -b alice -N $door/changes     # and meanwhile:" \
        "curl --cacert $roots -b grace -i -H 'Sec-Fetch-Site: same-origin' -d 'New text.' $door/pages/home" \
        "$countersign audit tail"
    exit
fi

say "# who reads"
refused "somebody without a session" "$(browse "$door/pages/home")" CSD217
allowed "alice reads; the wiki knows her" "$(ask alice GET /pages/home)" 'Read by dev:alice; cookies: none'
answer=$(ask alice GET /pages/home -H 'X-Remote-User: dev:grace' -H 'countersign-assertion: made.up.here')
allowed "alice says that she is grace: the wiki hears alice" "$answer" 'Read by dev:alice; cookies: wiki_theme'
for header in 'strict-transport-security: max-age=' 'x-content-type-options: nosniff' 'x-frame-options: DENY' \
    "content-security-policy: frame-ancestors 'none'" 'referrer-policy: no-referrer'; do
    grep -qi "^$header" <<<"$answer" || fail "no \`$header\` in: $answer"
done
say "added             what browsers are to be told, of which the wiki never heard"

say "# who may what"
allowed "grace writes" "$(ask grace POST /pages/home -d 'New text.')" 'Written.'
refused "alice writes" "$(ask alice POST /pages/home -d 'Mine.')" CSD502
refused "grace writes too much" "$(ask grace POST /pages/home -d "$(printf '%5000s')")" CSD509
refused "grace administers: no edge" "$(ask grace GET /admin)" CSD401
refused "the wiki's own login: no edge" "$(ask alice GET /login)" CSD401
refused "the same by a path that can be read in two ways" "$(ask grace GET /pages/%2e%2e/admin --path-as-is)" CSD402
refused "a page of another site posts for grace" \
    "$(browse -b "$data/grace" -H 'Sec-Fetch-Site: cross-site' -d x=y "$door/pages/home")" CSD218

say "# what goes on"
start changes curl -sS -N --cacert "$roots" -b "$data/alice" "$door/changes"
start live python3 live.py "$door" /live "$data/alice" "$roots"
until_true "alice listened to events" changes grep -q listening "$data/changes.log"
until_true "alice listened by WebSocket" live grep -q listening "$data/live.log"
allowed "grace writes" "$(ask grace POST /pages/news -d 'Tea is back.')" 'Written.'
until_true "the event came" changes grep -q 'news was written by dev:grace' "$data/changes.log"
until_true "the message came" live grep -q 'news was written by dev:grace' "$data/live.log"
say "passed on         an event and a message, while both stay open"
upgrade=(-H 'Connection: Upgrade' -H 'Upgrade: websocket' -H 'Sec-WebSocket-Version: 13' -H 'Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==')
refused "a page of another site opens a WebSocket" \
    "$(browse -b "$data/alice" "${upgrade[@]}" -H 'Sec-Fetch-Site: cross-site' "$door/live")" CSD218

say "# past the door"
past() { # path, what the wiki has to say, curl arguments...
    local path=$1 said=$2 answer
    shift 2
    answer=$(curl -sS -i --unix-socket "$data/wiki.sock" "$@" "http://localhost$path")
    head -n 1 <<<"$answer" | grep -q ' 401' && grep -qF "$said" <<<"$answer" || fail "past the door to $path: $answer"
    say "refused           by the wiki: $said"
}
[ "$(stat -c %a "$data/wiki.sock")" = 600 ] || fail "others can open the wiki's socket"
past /admin 'there is none'
past /pages/home 'there is none' -H 'X-Remote-User: dev:grace'
answer=$(ask alice GET /request)
assertion=$(sed -n 's/.*"countersign-assertion": "\([^"]*\)".*/\1/p' <<<"$answer")
! grep -qi '__Host-cs' <<<"$answer" || fail "the wiki saw the session's cookie: $answer"
past /request 'it was used before' -H "countersign-assertion: $assertion"
past /admin 'it is for another request' -H "countersign-assertion: $assertion"
encoded() { openssl base64 -A | tr '+/' '-_' | tr -d =; }
claims=$(cut -d. -f2 <<<"$assertion" | tr -- '-_' '+/' | { read -r text; printf %s "$text===" | head -c $(((${#text} + 3) / 4 * 4)); } |
    openssl base64 -d -A | sed 's|"path":"/request"|"path":"/admin"|; s/dev:alice/dev:grace/')
forged=$(cut -d. -f1 <<<"$assertion").$(printf %s "$claims" | encoded)
openssl genpkey -algorithm ed25519 -out "$data/own.key"
printf %s "$forged" >"$data/forged"
openssl pkeyutl -sign -inkey "$data/own.key" -rawin -in "$data/forged" -out "$data/signature"
past /admin 'not signed by the gateway' -H "countersign-assertion: $forged.$(encoded <"$data/signature")"

say "# alice's session is revoked"
answer=$(ask alice GET /pages/home)
read_by_alice=$(receipt_of "$answer")
sid=$(cs audit show "$read_by_alice" -o json | sed -n 's/.*"sid": *"\([0-9a-f]\{64\}\)".*/\1/p' | head -n 1)
cs identity revoke session "$sid" >/dev/null
until_true "the WebSocket was closed" up grep -q 'closed 1008' "$data/live.log"
finished() { ! kill -0 "${pid[changes]}" 2>/dev/null; }
until_true "the events ended" up finished
say "ended             her WebSocket, with 1008, and her events"
refused "alice reads" "$(ask alice GET /pages/home)" CSD304
revoked=$receipt

say "# the record"
proved "$read_by_alice"
proved "$revoked"
tampered "$revoked" CSD304 CSD217
say OK
