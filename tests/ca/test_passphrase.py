"""A root's key under a passphrase: it signs for whoever has that, for nobody else, and never for an agent."""

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ca.authority import new_key
from ca.disk import init_root, load_or_create
from ca.errors import CaRefused
from ca.issuing import issue
from ca.passphrase import COST, encrypted
from ca.pem import key_bytes, private_key
from ca.show import show
from ca.verify import verify
from tests.testlib.certificates import Ca, identity

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
DAY = timedelta(days=1)
WORDS, DOMAIN = b"correct horse", "cell.internal"


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    made = tmp_path / "authority"
    init_root(made, trust_domain=DOMAIN, now=NOW, passphrase=WORDS)
    return made


def test_a_key_opens_with_its_passphrase_alone_here_and_in_openssl(tmp_path: Path) -> None:
    key, path = new_key(), tmp_path / "key"
    path.write_bytes(key_bytes(key, passphrase=WORDS))
    assert private_key(path.read_bytes(), where="", passphrase=WORDS).private_numbers() == key.private_numbers()
    opened = [
        subprocess.run(
            ["openssl", "pkey", "-in", path, "-passin", f"pass:{words}"], capture_output=True, text=True
        ).stdout.encode()
        for words in (WORDS.decode(), "correct")
    ]
    assert opened == [key_bytes(key), b""]
    for words, refusal in ((b"correct", "does not open the file"), (None, "the file is encrypted")):
        with pytest.raises(CaRefused, match=refusal):
            private_key(path.read_bytes(), where="the file", passphrase=words)


def test_each_attempt_at_a_passphrase_costs_16_megabytes() -> None:
    told = subprocess.run(
        ["openssl", "asn1parse"], input=encrypted(b"key", passphrase=WORDS), capture_output=True, check=True
    ).stdout.decode()
    assert ":PBES2" in told
    assert ":scrypt" in told
    assert f":{COST:02X}\n" in told
    assert COST * 8 * 128 == 16 << 20


@pytest.mark.parametrize("length", [1, 127, 128, 5000])
def test_content_of_any_length_is_what_openssl_reads(length: int) -> None:
    told = subprocess.run(
        ["openssl", "asn1parse"], input=encrypted(b"k" * length, passphrase=WORDS), capture_output=True, check=True
    )
    last = told.stdout.decode().splitlines()[-1]
    assert f"l={length // 16 * 16 + 16:>4} prim: OCTET STRING" in last


def test_a_root_signs_for_its_passphrase_and_no_other(authority: Path, tmp_path: Path) -> None:
    made = issue(authority, cell="cell-1", out=tmp_path / "one", now=NOW, passphrase=WORDS)
    leaf = Ca(made, made).leaf(identity(), now=NOW)
    assert verify(leaf.chain, (authority / "root.crt").read_bytes(), now=NOW) == identity()
    for words, refusal in ((None, "root.key is encrypted"), (b"x", "the passphrase does not open .*root.key")):
        with pytest.raises(CaRefused, match=refusal) as refused:
            issue(authority, cell="cell-2", out=tmp_path / "two", now=NOW, passphrase=words)
        assert refused.value.hint
    assert not (tmp_path / "two").exists()


def test_a_passphrase_too_many_is_no_mistake(tmp_path: Path) -> None:
    init_root(tmp_path / "plain", trust_domain=DOMAIN, now=NOW)
    issued = issue(tmp_path / "plain", cell="cell-1", out=tmp_path / "one", now=NOW, passphrase=WORDS)
    assert (
        load_or_create(tmp_path / "one", cell="cell-1", trust_domain=DOMAIN, now=NOW).cell.below_root() == issued.below_root()
    )


def test_for_the_agent_of_its_cell_the_key_is_elsewhere(authority: Path, tmp_path: Path) -> None:
    def start(now: datetime) -> object:
        return load_or_create(authority, cell="cell-1", trust_domain=DOMAIN, now=now)

    assert not show(authority).root_key_here
    with pytest.raises(CaRefused, match=r"has no cell\.crt"):
        start(NOW)
    issue(authority, cell="cell-1", out=tmp_path / "one", now=NOW, passphrase=WORDS)
    for name in ("cell.crt", "cell.key"):
        (tmp_path / "one" / name).rename(authority / name)
    there = load_or_create(authority, cell="cell-1", trust_domain=DOMAIN, now=NOW + 80 * DAY)
    assert (there.root, there.renew_at) == (None, None)


def test_a_crash_between_key_and_certificate_needs_the_passphrase_again(authority: Path) -> None:
    before = (authority / "root.key").read_bytes()
    (authority / "root.crt").unlink()
    for words in (None, b"other"):
        with pytest.raises(CaRefused):
            init_root(authority, trust_domain=DOMAIN, now=NOW, passphrase=words)
    init_root(authority, trust_domain=DOMAIN, now=NOW, passphrase=WORDS)
    assert (authority / "root.key").read_bytes() == before
