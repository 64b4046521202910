"""An instance's identity: files in memory with its name, its own even at an address that another instance had before."""

import os
import ssl
import stat
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from agent.identity.keyring import on_tmpfs
from ca.names import Identity
from ca.pem import certificates, fits, private_key
from ca.verify import verify
from tests.testlib.cell import CellUnderTest
from tests.testlib.instance import Instance
from tests.testlib.patience import eventually

WEB, API = "acme/shop/web", "acme/shop/api"
POLICY = "policies:\n- {from: same-space, to: acme/shop/*, tcp: 61443}\n"
MakeCell = Callable[..., CellUnderTest]


def path(instance: Instance, key: str) -> Path:
    """One of the files of CF_INSTANCE_CERT and its kin."""
    return Path(instance.environment[key])


def leaf(instance: Instance) -> x509.Certificate:
    """The certificate in its file."""
    return certificates(path(instance, "CF_INSTANCE_CERT").read_bytes(), where="the file")[0]


def served(web: Instance, server: Instance) -> x509.Certificate:
    """The certificate that its port shows, verified for its address."""
    with web.dial_tls(server) as secure:
        shown = secure.getpeercert(binary_form=True)
    assert shown is not None
    return x509.load_der_x509_certificate(shown)


def test_the_files_hold_the_identity_of_the_instance(cell: CellUnderTest) -> None:
    api = cell.run_app(API, routes=["api.apps.internal"], options=["--instance=3"])
    said = verify(path(api, "CF_INSTANCE_CERT").read_bytes(), path(api, "CF_INSTANCE_CA").read_bytes(), now=datetime.now(UTC))
    names = ("3.api.shop.acme.cell.internal", "api.shop.acme.cell.internal", "3.api.apps.internal", "api.apps.internal")
    assert said == Identity("cell.internal", "acme", "shop", "api", address=api.address, dns_names=names)
    assert said.spiffe_id == "spiffe://cell.internal/org/acme/space/shop/app/api"


def test_only_root_reads_the_key_and_it_is_in_memory_only(cell: CellUnderTest) -> None:
    api = cell.run_app(API)
    key = path(api, "CF_INSTANCE_KEY")
    found = key.stat()
    assert (stat.S_IMODE(found.st_mode), found.st_uid) == (0o600, 0)
    assert on_tmpfs(key)
    assert stat.S_IMODE(path(api, "CF_INSTANCE_CERT").stat().st_mode) == 0o644
    pem = key.read_bytes().splitlines()[1]
    on_disk = [file for file in cell.lab.root.rglob("*") if file.is_file() and file.stat().st_size and not on_tmpfs(file)]
    assert [file for file in on_disk if pem in file.read_bytes()] == []


def test_the_port_shows_the_certificate_of_the_files(cell: CellUnderTest) -> None:
    web, api = cell.run_app(WEB), cell.run_app(API, port=8080, server=True)
    cell.policy_file("shop.yaml", POLICY)
    assert served(web, api) == leaf(api)
    assert fits(leaf(api), private_key(path(api, "CF_INSTANCE_KEY").read_bytes(), where="the file"))


def test_the_files_are_found_inside_by_their_variables(cell: CellUnderTest) -> None:
    api = cell.run_app(API)
    check = 'openssl verify -x509_strict -CAfile "$CF_INSTANCE_CA" -untrusted "$CF_INSTANCE_CERT" "$CF_INSTANCE_CERT"'
    assert api.exec("sh", "-c", check).endswith("instance.crt: OK\n")
    public = 'openssl x509 -in "$CF_INSTANCE_CERT" -noout -pubkey > /dev/shm/$$; openssl pkey -in "$CF_INSTANCE_KEY" -pubout'
    assert api.exec("sh", "-c", f"{public} | cmp - /dev/shm/$$ && rm /dev/shm/$$ && echo same") == "same\n"


def test_two_instances_of_an_app_have_one_id_and_two_keys(cell: CellUnderTest) -> None:
    one, other = cell.run_app(API, name="one"), cell.run_app(API, name="other")
    found = [Identity.of(leaf(each)) for each in (one, other)]
    assert found[0].spiffe_id == found[1].spiffe_id
    assert [each.address for each in found] == [one.address, other.address]
    assert leaf(one).public_key() != leaf(other).public_key()


def test_the_files_go_with_the_attachment(cell: CellUnderTest) -> None:
    api = cell.run_app(API)
    folder = path(api, "CF_INSTANCE_CERT").parent
    assert sorted(os.listdir(folder)) == ["instance.crt", "instance.key"]
    api.stop()
    eventually(lambda: not folder.exists())


def test_a_leaf_never_outlives_its_issuer(make_cell: MakeCell) -> None:
    """Asked for a hundred days, under an intermediate of ninety."""
    cell = make_cell("tls.leaf_lifetime=100d")
    api = cell.run_app(API)
    chain = certificates(path(api, "CF_INSTANCE_CERT").read_bytes(), where="the file")
    assert [each.subject.rfc4514_string() for each in chain] == ["CN=api,OU=shop,O=acme", "CN=cell cell-1,O=cellnet"]
    assert chain[0].not_valid_after_utc <= chain[1].not_valid_after_utc
    assert chain[0].not_valid_before_utc >= chain[1].not_valid_before_utc


def test_a_successor_at_the_same_address_has_a_certificate_and_connections_of_its_own(make_cell: MakeCell) -> None:
    """Five addresses, all but one held by others: each new instance gets the one that was given back just before."""
    cell = make_cell("overlay.network=10.255.1.0/28", "overlay.cell_prefix=29")
    web = cell.run_app(WEB)
    for number in range(3):
        cell.run_app("acme/shop/filler", name=f"filler{number}")
    cell.policy_file("shop.yaml", POLICY)
    before = cell.run_app(API)
    old, context = leaf(before), web.tls_context()
    for generation in range(5):
        with before.listen(8080) as listener:
            live = web.dial_tls(before, context=context)
            live.sendall(b"!")
            while before.keep(listener.accept()[0]).recv(1) != b"!":
                pass  # Envoy's call for a caller that has only looked at the certificate
        before.stop()
        app = f"acme/shop/next{generation % 2}"
        after = cell.run_app(app, name="api" if generation % 3 else f"next{generation}")
        assert after.address == before.address
        shown = served(web, after)
        assert shown == leaf(after)
        assert shown.public_key() != old.public_key()
        assert Identity.of(shown).spiffe_id == f"spiffe://cell.internal/org/acme/space/shop/app/next{generation % 2}"
        assert ended(live)
        old, before = shown, after


def ended(live: ssl.SSLSocket) -> bool:
    """Whether it is not answered any more."""
    try:
        live.sendall(b"!")
        return live.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


# ca


def test_ca_init_refuses_where_a_root_is(cell: CellUnderTest) -> None:
    folder = cell.lab.root / "var/lib/cellnet/ca"
    before = {each.name: each.read_bytes() for each in folder.iterdir()}
    said = cell.cellnet("ca", "init", code=1).err
    assert said.startswith(f"error: {folder} has a root already; hint: ")
    assert {each.name: each.read_bytes() for each in folder.iterdir()} == before


def test_the_keys_of_the_authorities_are_roots_alone(cell: CellUnderTest) -> None:
    folder = cell.lab.root / "var/lib/cellnet/ca"
    assert {each.name: stat.S_IMODE(each.stat().st_mode) for each in folder.glob("*.key")} == {
        "root.key": 0o600, "cell.key": 0o600
    }  # fmt: skip


def test_ca_show_prints_both_authorities(cell: CellUnderTest) -> None:
    said = cell.cellnet("ca", "show").out
    assert "CN=root cell.internal,O=cellnet" in said
    assert "CN=cell cell-1,O=cellnet" in said


def test_the_envoy_of_the_cell_holds_no_key_on_disk_and_few_rights(cell: CellUnderTest) -> None:
    cell.run_app(API)
    status = Path(f"/proc/{cell.envoy_pid}/status").read_text()
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert fields["Uid"].split()[0] != "0"
    three = 1 << 21 | 1 << 13 | 1 << 10  # CAP_SYS_ADMIN, CAP_NET_RAW, CAP_NET_BIND_SERVICE
    assert int(fields["CapEff"], 16) == int(fields["CapBnd"], 16) == three
    assert fields["NoNewPrivs"] == "1"
