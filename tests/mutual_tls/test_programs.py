"""Real programs, as Debian has them, between containers of two cells in strict mode: none of them knows of it."""

import hashlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cells.conftest import Place
from tests.testlib.cells import CellsUnderTest
from tests.testlib.containers import ServingContainer
from tests.testlib.patience import eventually

REDIS, POSTGRES, NGINX, IPERF, MARIADB, SSH = 6379, 5432, 80, 5201, 3306, 22
PORTS = (REDIS, POSTGRES, NGINX, IPERF, MARIADB, SSH)
LARGE = 8 << 20
POSTGRES_PROGRAMS = max(Path("/usr/lib/postgresql").glob("*/bin"), default=Path("/usr/lib/postgresql/none/bin"))


@dataclass(frozen=True, slots=True)
class Programs:
    """`client` on one cell, `server` on another; servers keep their files in `folder`."""

    client: ServingContainer
    server: ServingContainer
    folder: Path

    @property
    def address(self) -> str:
        return str(self.server.address)

    def ask(self, *argv: str, stdin: bytes | None = None) -> str:
        """Run a client to its end."""
        return self.client.place.run(*argv, stdin=stdin)

    @contextmanager
    def serving(self, port: int, *argv: str, user: str = "root") -> Iterator[None]:
        """A server, for as long as the block lasts."""
        log = self.folder / f"{port}.log"
        with log.open("wb") as sink:
            child = self.server.place.start("setpriv", "--reuid", user, "--clear-groups", "--", *argv, stdout=sink, stderr=sink)
        try:
            listens = f"( sport = :{port} )"
            eventually(lambda: f":{port}" in self.server.place.run("ss", "-Htln", listens))
            yield
        finally:
            child.terminate()
            child.wait(timeout=30)

    def owned_by(self, user: str, name: str) -> Path:
        """A new folder."""
        made = self.folder / name
        made.mkdir(mode=0o700)
        found = pwd.getpwnam(user)
        os.chown(made, found.pw_uid, found.pw_gid)
        return made


@pytest.fixture
def programs(cells: CellsUnderTest, place: Place) -> Iterator[Programs]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cnt-programs-", ignore_cleanup_errors=True)))
        folder.chmod(0o755)
        client, server = place(1, "acme/shop/client"), place(2, "acme/shop/server")
        cells.allow("acme/shop/client", "acme/shop/server", *(f"tcp/{port}" for port in PORTS))
        yield Programs(client, server, folder)


def test_redis(programs: Programs) -> None:
    to = ("redis-cli", "-h", programs.address)
    with programs.serving(
        REDIS, "redis-server", "--bind", programs.address, "--protected-mode", "no", "--save", "", "--dir", str(programs.folder)
    ):
        assert programs.ask(*to, "set", "key", "value").strip() == "OK"
        assert "errors: 0, replies: 5000" in programs.ask(*to, "--pipe", stdin=b"SET many value\r\n" * 5000)
        assert programs.ask(*to, "get", "many").strip() == "value"


def test_postgresql(programs: Programs) -> None:
    data = programs.owned_by("postgres", "postgres")
    as_postgres = ("setpriv", "--reuid", "postgres", "--clear-groups", "--")
    subprocess.run(
        [*as_postgres, POSTGRES_PROGRAMS / "initdb", "-A", "trust", "-N", data], check=True, stdout=subprocess.DEVNULL
    )
    (data / "pg_hba.conf").write_text(f"host all all {programs.client.address}/32 trust\n")  # the caller's own address
    to = ("psql", "-h", programs.address, "-U", "postgres", "-At", "-c")
    options = ("-h", programs.address, "-k", str(data), "-F")
    with programs.serving(POSTGRES, str(POSTGRES_PROGRAMS / "postgres"), "-D", str(data), *options, user="postgres"):
        assert programs.ask(*to, "select inet_client_addr()").strip() == str(programs.client.address)
        lines = programs.ask(*to, "copy (select generate_series(1, 200000)) to stdout").split()
        assert len(lines) == 200_000


def test_mariadb_which_speaks_first(programs: Programs) -> None:
    data = programs.owned_by("mysql", "mariadb")
    socket = data / "mariadb.sock"
    grant = f"create user someone@'{programs.client.address}' identified by 'secret';"
    (data / "grant.sql").write_text(grant)
    made = ["mariadb-install-db", "--no-defaults", "--user=mysql", f"--datadir={data}", "--skip-test-db"]
    subprocess.run(made, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with programs.serving(
        MARIADB, "mariadbd", "--no-defaults", f"--datadir={data}", f"--socket={socket}", f"--bind-address={programs.address}",
        f"--init-file={data / 'grant.sql'}", "--skip-name-resolve", user="mysql",
    ):  # fmt: skip
        found = programs.ask(
            "mariadb",
            "--no-defaults",
            "-h",
            programs.address,
            "-usomeone",
            "-psecret",
            "-Ne",
            "select user(), repeat('x', 100000)",
        )
        assert found.split()[0] == f"someone@{programs.client.address}"
        assert len(found.split()[1]) == 100_000


def test_nginx_and_curl(programs: Programs) -> None:
    (programs.folder / "large").write_bytes(large := os.urandom(LARGE))
    config = programs.folder / "nginx.conf"
    config.write_text(
        f"daemon off; pid {programs.folder}/nginx.pid; error_log stderr; user root; events {{}}\n"
        f"http {{ access_log off; server {{ listen {programs.address}:{NGINX}; root {programs.folder};"
        " location = /who { return 200 $remote_addr; } } }\n"
    )
    url = f"http://{programs.address}:{NGINX}"
    with programs.serving(NGINX, "nginx", "-c", str(config), "-e", "stderr"):
        assert programs.ask("curl", "-sS", "-m20", f"{url}/who") == str(programs.client.address)
        got = programs.folder / "got"
        programs.ask("curl", "-sS", "-m20", "-o", str(got), f"{url}/large")
        assert hashlib.sha256(got.read_bytes()).digest() == hashlib.sha256(large).digest()


def test_iperf3_both_ways_on_four_streams(programs: Programs) -> None:
    with programs.serving(IPERF, "iperf3", "-s", "-B", programs.address):
        for way in ((), ("-R",)):
            assert "iperf Done." in programs.ask("iperf3", "-c", programs.address, "-t", "1", "-P", "4", *way)


def test_ssh(programs: Programs) -> None:
    folder = programs.owned_by("root", "ssh")
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    shutil.copy(folder / "user.pub", folder / "authorized")
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    options = {
        "ListenAddress": programs.address, "HostKey": folder / "host", "AuthorizedKeysFile": folder / "authorized",
        "PidFile": "none", "UsePAM": "no", "PermitRootLogin": "yes", "StrictModes": "no",
    }  # fmt: skip
    flags = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
    known = ("-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR")
    with programs.serving(SSH, "/usr/sbin/sshd", "-D", "-e", "-f", "/dev/null", *flags):
        to = ("ssh", "-i", str(folder / "user"), *known, f"root@{programs.address}")
        large = os.urandom(1 << 20)
        assert programs.ask(*to, "echo $SSH_CONNECTION").split()[0] == str(programs.client.address)
        assert programs.ask(*to, "sha256sum", stdin=large).split()[0] == hashlib.sha256(large).hexdigest()
