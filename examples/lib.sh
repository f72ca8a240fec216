# What the examples share; their run.sh reads it. Every process started here ends with the script,
# every port is one that is free, and every check says what it saw when it is not what was said.
#
# COUNTERSIGN names the program; without it, this checkout is built (`cargo build --release`).
umask 077
examples=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

say() { printf '%s\n' "$*"; }
fail() {
    say "FAILED: $*" >&2
    tail -n 30 "$data"/*.log >&2 2>/dev/null || true
    exit 1
}

case ${1:-} in
'') check=false ;;
--check) check=true ;;
*)
    say "usage: $0 [--check]" >&2
    exit 2
    ;;
esac

# The program.
if [ -z "${COUNTERSIGN:-}" ]; then
    say "building countersign; set COUNTERSIGN to use one that is there"
    (cd "$examples/.." && cargo build --release --locked)
    COUNTERSIGN=${CARGO_TARGET_DIR:-$examples/../target}/release/countersign
fi
countersign=$(command -v "$COUNTERSIGN") || {
    say "no program at $COUNTERSIGN" >&2
    exit 2
}
countersign=$(realpath "$countersign")
for tool in curl openssl python3; do
    command -v $tool >/dev/null || {
        say "$tool is needed" >&2
        exit 2
    }
done

# A folder for everything that is made, and an end for everything that is started.
data=$(mktemp -d)
export COUNTERSIGN_DATA=$data/data
unset COUNTERSIGN_CONFIG COUNTERSIGN_SOCKET COUNTERSIGN_OUTPUT COUNTERSIGN_IDENTITY
declare -A pid port
started=()
end() { # name...: ends these processes, in this order
    local name
    for name; do
        kill "${pid[$name]}" 2>/dev/null || true
        wait "${pid[$name]}" 2>/dev/null || true
    done
}
clean_up() {
    trap - EXIT
    # The last started stops first; the server last, so that it sees the others go.
    local i
    for ((i = ${#started[@]} - 1; i >= 0; i--)); do end "${started[i]}"; done
    rm -rf "$data"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

start() { # name, command...
    local name=$1
    shift
    "$@" >"$data/$name.log" 2>&1 &
    pid[$name]=$!
    started+=("$name")
}
until_true() { # what, process, command...: waits for as long as the process lives, a minute at most
    local what=$1 process=$2 deadline=$((SECONDS + 60))
    shift 2
    until "$@" >/dev/null 2>&1; do
        kill -0 "${pid[$process]}" 2>/dev/null || fail "$process ended before $what"
        [ $SECONDS -lt $deadline ] || fail "$what took over a minute"
        sleep 0.1
    done
}
listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# Ports: those of the documentation where they are free, others where they are not.
ports() { # port...
    local wanted free
    while read -r wanted free; do port[$wanted]=$free; done < <(python3 - "$@" <<'PYTHON'
import socket, sys

held = []
for wanted in sys.argv[1:]:
    for port in (int(wanted), 0):
        held.append(socket.socket())
        held[-1].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            held[-1].bind(("127.0.0.1", port))
            break
        except OSError:
            held[-1].close()
    print(wanted, held[-1].getsockname()[1])
PYTHON
    )
}
with_ports() { # file: the same with the ports that are free
    local wanted expressions=()
    for wanted in "${!port[@]}"; do expressions+=(-e "s/:$wanted\b/:<${port[$wanted]}>/g"); done
    sed "${expressions[@]}" -e 's/:<\([0-9]*\)>/:\1/g' "$1"
}

# countersign itself, in the folder with the configuration.
cs() { (cd "$data" && "$countersign" "$@"); }
up() { # server and gateway in one process; the control port is the first that is known as 7443
    start up env -C "$data" "$countersign" up --dev --control "127.0.0.1:${port[7443]}" --drain 1s
    until_true "countersign was up" up cs status
    roots=$data/data/keys/ca-root.pem
}

# Somebody at a browser: a cookie jar, and the header by which browsers say where a request is from.
# By HTTP/1.1, because curl 7.88 loses an answer over HTTP/2 that comes before it has sent its
# body, and a refusal does not wait for one.
door=
browse() { curl -sS -i --http1.1 --cacert "$roots" "$@"; }
sign_in() { # member, jar
    local form
    rm -f "$data/$2"
    form=$(curl -sS --cacert "$roots" -c "$data/$2" "$door/.countersign/login" |
        sed -n 's/.*name="form" value="\([^"]*\)".*/\1/p')
    curl -sS --cacert "$roots" -b "$data/$2" -c "$data/$2" -o /dev/null -H 'Sec-Fetch-Site: same-origin' \
        --data-urlencode "form=$form" --data-urlencode return=/ --data-urlencode "member=$1" \
        "$door/.countersign/login"
    grep -q '__Host-cs[[:space:]]' "$data/$2" || fail "signing in as $1"
}
ask() { # jar, method, path, curl arguments...; prints head and body
    local jar=$1 method=$2 path=$3
    shift 3
    browse -b "$data/$jar" -c "$data/$jar" -H 'Sec-Fetch-Site: same-origin' -X "$method" "$@" "$door$path"
}

# What came of it. Each takes what was tried and the answer, head and body.
receipt_of() { sed -n 's/^countersign-receipt: *\(r-[0-9a-z]*\).*/\1/ip' <<<"$1" | head -n 1; }
allowed() { # what, answer, what it has to say
    receipt=$(receipt_of "$2")
    head -n 1 <<<"$2" | grep -q ' 20[0-9]' && grep -qF -- "$3" <<<"$2" || fail "$1: expected \`$3\`, got: $2"
    say "allowed           $1 ($receipt)"
}
refused() { # what, answer, code: refused with it, and recorded so
    receipt=$(receipt_of "$2")
    grep -q "\"code\": *\"$3\"" <<<"$2" || fail "$1: expected $3, got: $2"
    cs audit show "$receipt" -o json | grep -q "\"code\": *\"$3\"" || fail "$1: no record $receipt of it"
    say "refused  $3   $1 ($receipt)"
}
# A receipt with its proof, verified with nothing but the program, the proof and the log's key.
proved() { # receipt
    cs -q audit prove "$1" -o "$data/$1.json" >/dev/null 2>"$data/prove.log" || fail "proving $1"
    log_key=$(cs status -o json | sed -n 's/.*"log_key": *"\([^"]*\)".*/\1/p')
    env -i "$countersign" audit verify "$data/$1.json" --key "$log_key" >"$data/verified" 2>&1 || fail "the proof of $1: $(cat "$data/verified")"
    grep -q VERIFIED "$data/verified" || fail "the proof of $1: $(cat "$data/verified")"
    say "VERIFIED          $1, offline, by the log's key"
}
tampered() { # receipt, words of the record, others: a proof with others in its record does not verify
    local code=0
    python3 - "$data/$1.json" "$2" "$3" >"$data/tampered.json" <<'PYTHON' || fail "the record of $1 does not say $2"
import base64, json, sys

proof = json.load(open(sys.argv[1]))
record = base64.b64decode(proof["leaf"]).decode()
changed = record.replace(sys.argv[2], sys.argv[3])
proof["leaf"] = base64.b64encode(changed.encode()).decode()
json.dump(proof, sys.stdout)
sys.exit(changed == record)
PYTHON
    env -i "$countersign" audit verify "$data/tampered.json" --key "$log_key" >"$data/verified" 2>&1 || code=$?
    [ $code = 5 ] || fail "a changed record ended with $code: $(cat "$data/verified")"
    say "found             the same with \`$3\` in its record instead of \`$2\`"
}
# Leaves everything running for whoever tries it by hand.
stay() {
    say "Everything runs; its files are in $data. In another terminal:"
    say "  export COUNTERSIGN_DATA=$COUNTERSIGN_DATA; cd $data"
    printf '  %s\n' "$@"
    say "Ctrl-C stops it and removes the files."
    wait
}
