# From machines that have cellnet to cells: the commands of docs/install.md in its order (a test compares them). Sourced by provision.sh on
# the first machine, whose root reaches the others by ssh. Only what a lab has besides is not in the document.
# shellcheck shell=sh disable=SC2164,SC2013 # the sourcing script ends where a command fails; names have no spaces

if [ -e /root/cellnet/complete ]; then
    step 'the cells are set up already'
    return
fi
rm -rf /root/cellnet

step 'the list of servers'
install -d -m 700 /root/cellnet
cd /root/cellnet
echo "$SERVERS" >servers

step 'etcd with TLS'
first=$(sed -n '1s/.* //p' servers)
install -d -m 755 /etc/etcd
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj "/CN=CA of etcd" \
    -keyout etcd-ca.key -out /etc/etcd/ca.crt
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 365 -subj "/CN=etcd" \
    -addext "subjectAltName=IP:$first" -addext basicConstraints=critical,CA:FALSE \
    -CA /etc/etcd/ca.crt -CAkey etcd-ca.key -keyout /etc/etcd/server.key -out /etc/etcd/server.crt
chown etcd /etc/etcd/server.key
cat >/etc/default/etcd <<END
ETCD_LISTEN_CLIENT_URLS=https://$first:2379
ETCD_ADVERTISE_CLIENT_URLS=https://$first:2379
ETCD_CERT_FILE=/etc/etcd/server.crt
ETCD_KEY_FILE=/etc/etcd/server.key
END
systemctl enable etcd
systemctl restart etcd

step 'users of etcd, and what each may do'
export ETCDCTL_API=3 ETCDCTL_ENDPOINTS="https://$first:2379" ETCDCTL_CACERT=/etc/etcd/ca.crt
for user in root operator $(cut -d ' ' -f 1 servers); do
    install -m 600 /dev/null "$user.password"
    openssl rand -hex 24 >"$user.password"
    etcdctl user add "$user" --interactive=false <"$user.password"
done
etcdctl user grant-role root root
etcdctl auth enable
ETCDCTL_USER=root:$(cat root.password)
export ETCDCTL_USER
etcdctl role add operator
etcdctl role grant-permission operator --prefix=true readwrite /cellnet/v1/
etcdctl role grant-permission operator --prefix=true readwrite /cellnet/trail/v1/
etcdctl user grant-role operator operator
for cell in $(cut -d ' ' -f 1 servers); do
    etcdctl role add "$cell"
    for part in v1 summaries/v1 trail/v1 explain/v1; do
        etcdctl role grant-permission "$cell" --prefix=true read "/cellnet/$part/"
    done
    for part in "v1/cells/$cell" "v1/endpoints/$cell" v1/claims v1/tags explain/v1/questions "explain/v1/answers/$cell"; do
        etcdctl role grant-permission "$cell" --prefix=true readwrite "/cellnet/$part/"
    done
    etcdctl role grant-permission "$cell" readwrite "/cellnet/summaries/v1/$cell"
    etcdctl user grant-role "$cell" "$cell"
done
install -m 600 /dev/null operator.yaml
printf 'username: operator\npassword_file: operator.password\n' >operator.yaml

step "the root, and each cell's files"
cellnet ca init --ca authority
while read -r cell address; do
    cellnet ca issue-cell --ca authority --cell "$cell" --out "$cell/var/lib/cellnet/ca"
    install -D -m 644 /etc/etcd/ca.crt "$cell/etc/cellnet/etcd/ca.crt"
    install -D -m 600 "$cell.password" "$cell/etc/cellnet/etcd/password"
    cat >"$cell/etc/cellnet/agent.yaml" <<END
cell: $cell
underlay: {address: $address}
store:
  etcd:
    endpoints: [https://$first:2379]
    ca: /etc/cellnet/etcd/ca.crt
    username: $cell
    password_file: /etc/cellnet/etcd/password
tls: {mtls: strict}
END
done <servers

step 'the legacy firewall for the last one'
echo 'firewall: {backend: legacy}' >>"$(sed -n '$s/ .*//p' servers)/etc/cellnet/agent.yaml"

step 'each has its files, and starts'
while read -r cell address; do
    tar -C "$cell" -c . | ssh "root@$address" tar -C / -x --no-same-owner --no-overwrite-dir
    ssh -n "root@$address" systemctl enable --now cellnet.target
done <servers

step 'until all is well'
while read -r cell address; do
    ssh -n "root@$address" cellnet status --wait 60
done <servers
cellnet cell list
touch complete
