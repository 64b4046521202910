#!/bin/sh
# Does what cellnet promises hold on these three cells? As root on the first of them, after provision.sh: `smoke.sh` for all steps, or
# `smoke.sh deny allow …` for some. It takes a minute or two, reboots the second cell and takes the power of the third. Exit 1 at the
# first promise that does not hold. What it starts and allows is called smoke-…, and is gone when it ends.
set -eu
cd /root/cellnet
name() { sed -n "$1s/ .*//p" servers; }
address() { sed -n "s/^$1 //p" servers; }
ONE=$(name 1) TWO=$(name 2) THREE=$(name 3)
STEPS='deny allow revoke explain tls capture names publish loss reboot'
RUN=/run/smoke

doing='the start'
step() { doing=$1; printf 'smoke: %s\n' "$1"; }
fail() { printf 'error: at "%s": %s; hint: cellnet status on each cell, cellnet policy list, journalctl -u "cellnet*"\n' "$doing" "$1" >&2; exit 1; }

# One connection to each of the others carries all commands; a cell that was away is asked over new ones.
connect() { ssh -n -f -N -M -o ControlPath="$RUN/%h" -o ServerAliveInterval=2 -o ServerAliveCountMax=2 "root@$(address "$1")" >/dev/null 2>&1; }
disconnect() { for cell in $TWO $THREE; do ssh -O exit -o ControlPath="$RUN/%h" "root@$(address "$cell")" 2>/dev/null || :; done; }
on() {  # cell, command
    where=$1; shift
    if [ "$where" = "$ONE" ]; then "$@" </dev/null; else ssh -n -o ControlPath="$RUN/%h" -o ConnectTimeout=5 "root@$(address "$where")" "$@"; fi
}
within() {  # seconds, command: again and again until it succeeds
    end=$(($(date +%s) + $1)); shift
    until "$@" >/dev/null 2>&1; do
        [ "$(date +%s)" -lt "$end" ] || return 1
        sleep 0.2
    done
}
settled() {
    for cell in $ONE $TWO $THREE; do on "$cell" cellnet sync --timeout 30 >/dev/null || fail "$cell does not enforce what is known"; done
}
operate() { cellnet policy "$@" --store-credentials operator.yaml >/dev/null; settled; }
permit() { operate allow "$@"; }
forbid() { for policy; do operate delete "$policy"; done; }

start() {  # cell, name, then what `cellnet run` is given
    host=$1 unit=$2; shift 2
    on "$host" systemd-run --quiet --collect --unit "$unit" --working-directory "$RUN" cellnet run --name "$unit" "$@" 2>/dev/null
    within 30 on "$host" cellnet exec "$unit" -- true || fail "$unit does not run on $host"
}
api() { start "$1" "$2" --app acme/shop/api --port 8080 --publish 8081:8080 -- python3 -m http.server 8080; }
call() { on "$ONE" cellnet exec smoke-web -- curl -sS -o /dev/null -m 5 "$@"; }
passes() { within 10 call "$@" || fail "refused, though it is allowed: $*"; }
refused() {  # at once and in so many words: connection refused, a handshake or an answer that never begins, a reset
    code=0; call "$@" 2>/dev/null || code=$?
    case $code in 7 | 35 | 52 | 56) ;; 0) fail "let through, though no policy allows it: $*" ;; *) fail "curl ends with $code: $*" ;; esac
}
away() {
    for each in $ONE $TWO $THREE; do on "$each" systemctl stop 'smoke-*' 2>/dev/null || :; done
    for policy in $(cellnet policy list --json | grep -o '"smoke-[a-z]*"' | tr -d '"'); do
        cellnet policy delete "$policy" --store-credentials operator.yaml >/dev/null || :
    done
}

begin() {
    step 'three cells are well, and have two containers'
    mkdir -p "$RUN"
    for each in $TWO $THREE; do connect "$each" || fail "$ONE does not reach $each by ssh"; done
    for each in $ONE $TWO $THREE; do
        within 60 on "$each" cellnet status || fail "$each is not well"
        on "$each" mkdir -p "$RUN"
    done
    away
    on "$TWO" truncate -s 1G "$RUN/stream"
    start "$ONE" smoke-web --app acme/shop/web -- sleep infinity
    api "$TWO" smoke-api
    API=$(on "$TWO" cellnet exec smoke-api -- printenv CF_INSTANCE_INTERNAL_IP)
}

deny() {
    step 'deny: no policy, so no connection'
    refused "http://$API:8080/"
}

allow() {
    step 'allow: one policy, and it is there on all cells'
    permit acme/shop/web acme/shop/api tcp/8080 --name smoke-plain
    passes "http://$API:8080/"
    refused "http://$API:8082/"
}

revoke() {
    step 'revoke: without the policy the connection that it allowed is cut'
    rm -f "$RUN/ended"
    { code=0; call -m 120 --limit-rate 5M "http://$API:8080/stream" 2>/dev/null || code=$?; echo "$code" >"$RUN/ended"; } &
    sleep 2
    [ ! -e "$RUN/ended" ] || fail 'there is no connection that could be cut'
    forbid smoke-plain
    within 20 test -s "$RUN/ended" || fail 'the connection lives on'
    [ "$(cat "$RUN/ended")" != 0 ] || fail 'the answer came whole'
    refused "http://$API:8080/"
}

told() { cellnet flows --all 2>"$RUN/missing" >/dev/null && ! grep -q "$TWO\|$THREE" "$RUN/missing"; }
explain() {
    step 'explain: the first cell says what the second one alone sees, who changed what, and what flows on all'
    permit acme/shop/web acme/shop/api tcp/8080 tcp/8082 --name smoke-explain
    within 10 cellnet explain acme/shop/web acme/shop/api tcp/8080 || fail 'it says that what works does not'
    cellnet explain acme/shop/web acme/shop/api tcp/8082 >"$RUN/explained" && fail 'it does not see that nothing serves tcp/8082'
    grep -q "nothing in smoke-api serves tcp/8082, as $TWO says" "$RUN/explained" || fail "$(cat "$RUN/explained")"
    cellnet events --store | grep -q smoke-explain || fail 'who changed the policy is not in the store'
    within 90 told || fail "not all cells say what flows: $(cat "$RUN/missing")"
    forbid smoke-explain
}

tls() {
    step '61443: TLS with a certificate that the root vouches for, for nobody without a policy'
    url=https://api.shop.acme.cell.internal:61443/ resolved=api.shop.acme.cell.internal:61443:$API
    cp authority/root.crt "$RUN/root.crt"
    refused --cacert "$RUN/root.crt" --resolve "$resolved" "$url"
    permit acme/shop/web acme/shop/api tcp/61443 --name smoke-tls
    passes --cacert "$RUN/root.crt" --resolve "$resolved" "$url"
    code=0; call --resolve "$resolved" "$url" 2>/dev/null || code=$?
    [ "$code" = 60 ] || fail "a caller that does not know the root should end with 60, and ends with $code"
}

capture() {
    step 'strict mutual TLS: the wire between the cells shows no word of what apps say over TCP'
    permit acme/shop/web acme/shop/api tcp/8080 udp/9 --name smoke-wire
    on "$TWO" systemd-run --quiet --collect --unit smoke-capture tcpdump -i any -U -Z root -w "$RUN/wire" udp port 4789
    within 10 on "$TWO" test -s "$RUN/wire" || fail 'tcpdump does not begin'
    passes "http://$API:8080/?SECRET-OF-TCP"
    send='import socket, sys; socket.socket(type=socket.SOCK_DGRAM).sendto(b"PLAIN-WORD-OF-UDP", (sys.argv[1], 9))'
    cellnet exec smoke-web -- python3 -c "$send" "$API"
    # UDP is not encrypted: that it is seen shows that the capture sees
    within 10 on "$TWO" grep -qa PLAIN-WORD-OF-UDP "$RUN/wire" || fail 'the capture does not see the packets between the cells'
    on "$TWO" systemctl stop smoke-capture
    ! on "$TWO" grep -qa SECRET-OF-TCP "$RUN/wire" || fail 'what the app said is on the wire in plain'
    forbid smoke-wire
}

names() {
    step 'names: the api by its name, in its own space and as a route'
    permit acme/shop/web acme/shop/api tcp/8080 --name smoke-names
    cellnet route map acme/shop/api smoke.apps.internal --store-credentials operator.yaml >/dev/null
    passes http://api:8080/
    passes http://api.shop.acme.cell.internal:8080/
    passes http://smoke.apps.internal:8080/
    cellnet route unmap smoke.apps.internal --store-credentials operator.yaml >/dev/null
    forbid smoke-names
}

publish() {
    step 'publish: a port of the second cell leads to the api, for whom a policy names'
    public="http://$(address "$TWO"):8081/"
    code=0; on "$THREE" curl -sS -o /dev/null -m 5 "$public" 2>/dev/null || code=$?
    [ "$code" = 7 ] || fail "closed ports refuse (7), and this one ends with $code"
    permit "$(address "$THREE")/32" acme/shop/api tcp/8080 --name smoke-outside
    within 10 on "$THREE" curl -sS -o /dev/null -m 5 "$public" || fail 'refused, though it is allowed'
    forbid smoke-outside
}

returns() {
    within 300 on "$1" true || fail "$1 does not come back: see its console"
    within 120 on "$1" cellnet status || fail "$1 is back, and not well"
}
leads_to() { [ "$(cellnet exec smoke-web -- getent ahostsv4 api | awk '/STREAM/ { print $1 }' | sort -u | wc -l)" = "$1" ]; }

loss() {
    step 'loss of a cell: the third one loses its power, and nobody else a call'
    permit acme/shop/web acme/shop/api tcp/8080 --name smoke-loss
    api "$THREE" smoke-other
    within 10 leads_to 2 || fail 'the name does not lead to both instances'
    on "$THREE" systemctl reboot --force --force >/dev/null 2>&1 || :
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        call "http://$API:8080/" || fail 'a call between the two others failed'
    done
    within 90 leads_to 1 || fail 'the name still leads to what is gone'
    passes http://api:8080/
    returns "$THREE"
    on "$THREE" mkdir -p "$RUN"
    api "$THREE" smoke-other
    within 10 leads_to 2 || fail 'the name does not lead to the new instance'
    on "$THREE" systemctl stop smoke-other
    forbid smoke-loss
}

reboot() {
    step 'reboot: the second cell comes back, refuses, and allows what is allowed'
    before=$(on "$TWO" cat /proc/sys/kernel/random/boot_id)
    on "$TWO" systemctl reboot >/dev/null 2>&1 || :
    rebooted() { now=$(on "$TWO" cat /proc/sys/kernel/random/boot_id) && [ "$now" != "$before" ]; }
    within 300 rebooted || fail "$TWO does not reboot"
    returns "$TWO"
    on "$TWO" mkdir -p "$RUN"
    api "$TWO" smoke-api
    API=$(on "$TWO" cellnet exec smoke-api -- printenv CF_INSTANCE_INTERNAL_IP)
    refused "http://$API:8080/"
    permit acme/shop/web acme/shop/api tcp/8080 --name smoke-again
    passes "http://$API:8080/"
}

trap 'code=$?; away; disconnect; exit $code' EXIT
begin
# shellcheck disable=SC2086 # one word for each step
[ $# -gt 0 ] || set -- $STEPS
for each; do
    case " $STEPS " in *" $each "*) "$each" ;; *) fail "'$each' is no step; they are: $STEPS" ;; esac
done
echo "smoke: all that was tried holds"
