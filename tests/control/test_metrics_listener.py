"""Who gets the metrics over TCP, and what becomes of the rest."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from aiohttp import web
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat, load_pem_private_key

from agent.bounded_visitor import CONNECTIONS
from agent.config.config import MetricsSettings
from agent.config.listen import ListenAddress
from agent.config.load import loaded
from agent.control import metrics_listener
from agent.control.metrics_listener import MetricsListener
from agent.errors import InvalidInput
from tests.testlib.certificates import client_context, identity, make_ca
from tests.testlib.patience import eventually_async
from tests.testlib.stores.etcd import free_port

TEXT = "cellnet_up 1.0\n"
Settings = Callable[..., MetricsSettings]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A certificate, one for clients, and a token; `with_` chooses what is asked of clients."""
    now = datetime.now(UTC)
    ca = make_ca(now=now)
    leaf = ca.leaf(identity(address="127.0.0.1"), now=now)
    for name, content in (("root.crt", ca.root.bundle()), ("cert", leaf.chain), ("key", leaf.key)):
        (tmp_path / name).write_bytes(content)
        (tmp_path / name).chmod(0o600)
    token = tmp_path / "token"
    token.write_text("letmein\n")
    token.chmod(0o600)

    def made(*, client_ca: bool = False, with_token: bool = False) -> MetricsSettings:
        at = ListenAddress(IPv4Address("127.0.0.1"), free_port())
        authorities = tmp_path / "root.crt" if client_ca else None
        return MetricsSettings(at, tmp_path / "cert", tmp_path / "key", authorities, token if with_token else None)

    return made


@contextlib.asynccontextmanager
async def served(settings: MetricsSettings) -> AsyncIterator[MetricsListener]:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(text=TEXT)

    made = MetricsListener(settings)
    task = asyncio.get_running_loop().create_task(made.run(handler))
    try:
        yield made
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def trusting(settings: MetricsSettings, *, own: bool = False) -> ssl.SSLContext:
    """A client's; `own`: with a certificate."""
    assert settings.cert is not None
    made = client_context(settings.cert.with_name("root.crt").read_bytes())
    if own:
        made.load_cert_chain(settings.cert, settings.key)
    return made


async def asked(settings: MetricsSettings, context: ssl.SSLContext | None, *headers: str, path: str = "/metrics") -> str:
    """The whole answer; empty where none comes."""
    assert settings.listen is not None
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        reader, writer = await asyncio.open_connection(str(settings.listen.address), settings.listen.port, ssl=context)
        try:
            head = "".join(f"{each}\r\n" for each in ("Host: x", "Connection: close", *headers))
            writer.write(f"GET {path} HTTP/1.1\r\n{head}\r\n".encode())
            return (await reader.read()).decode()
        finally:
            writer.close()
    return ""


async def until_served(settings: MetricsSettings, context: ssl.SSLContext, *headers: str) -> None:
    async def answers() -> bool:
        return TEXT in await asked(settings, context, *headers)

    await eventually_async(answers)


BEARER = "Authorization: Bearer letmein"


async def test_a_bearer_of_the_token_gets_them_and_others_do_not(settings: Settings) -> None:
    here = settings(with_token=True)
    client = trusting(here)
    async with served(here):
        await until_served(here, client, BEARER)
        for wrong in ((), ("Authorization: Bearer letmeout",), ("Authorization: Basic letmein",), ("Authorization: Bearer",)):
            said = await asked(here, client, *wrong)
            assert said.startswith("HTTP/1.1 401")
            assert TEXT not in said
        assert (await asked(here, client, BEARER, path="/v1/status")).startswith("HTTP/1.1 404")
        assert TEXT not in await asked(here, None, BEARER), "plain text gets nothing"


async def test_a_client_needs_a_certificate_where_authorities_are_named(settings: Settings) -> None:
    here = settings(client_ca=True)
    async with served(here):
        await until_served(here, trusting(here, own=True))
        assert await asked(here, trusting(here)) == ""


async def test_where_both_are_named_both_are_needed(settings: Settings) -> None:
    here = settings(client_ca=True, with_token=True)
    async with served(here):
        await until_served(here, trusting(here, own=True), BEARER)
        assert (await asked(here, trusting(here, own=True))).startswith("HTTP/1.1 401")
        assert await asked(here, trusting(here), BEARER) == ""


async def test_a_token_and_a_certificate_that_change_are_taken_up(settings: Settings) -> None:
    here = settings(with_token=True)
    assert here.token_file is not None
    async with served(here):
        await until_served(here, trusting(here), BEARER)
        here.token_file.write_text("another\n")
        await until_served(here, trusting(here), "Authorization: Bearer another")
        assert (await asked(here, trusting(here), BEARER)).startswith("HTTP/1.1 401")


async def test_what_keeps_it_from_serving_is_a_problem_until_it_is_mended(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics_listener, "AGAIN", 0.05)
    here = settings(with_token=True)
    assert here.token_file is not None
    assert here.key is not None
    good = here.key.read_bytes()
    locked = load_pem_private_key(good, None).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
    )
    here.token_file.chmod(0o644)
    async with served(here) as listener:

        async def complains_of(words: str) -> None:
            async def does() -> bool:
                return any(words in each.what for each in listener.problems())

            await eventually_async(does)

        await complains_of("can be read by others than root")
        here.token_file.chmod(0o600)
        here.token_file.write_text("")
        await complains_of("does not hold one line")
        here.token_file.write_text("letmein")
        await until_served(here, trusting(here), BEARER)
        assert listener.problems() == ()
        here.key.write_bytes(locked)
        await complains_of("their certificate cannot be used")
        here.key.write_bytes(good)
        await until_served(here, trusting(here), BEARER)


async def test_a_port_that_is_taken_is_a_problem(settings: Settings) -> None:
    here = settings(with_token=True)
    async with served(here):
        await until_served(here, trusting(here), BEARER)
        async with served(here) as second:

            async def complains() -> bool:
                return any("metrics are not served at 127.0.0.1" in each.what for each in second.problems())

            await eventually_async(complains)


async def test_a_client_that_holds_connections_leaves_room_after_a_while(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics_listener, "LONGEST", 1.0)
    here = settings(with_token=True)
    client = trusting(here)
    assert here.listen is not None
    async with served(here):
        await until_served(here, client, BEARER)
        held = [
            await asyncio.open_connection(str(here.listen.address), here.listen.port, ssl=client) for _ in range(CONNECTIONS)
        ]
        assert await asked(here, client, BEARER) == ""
        await until_served(here, client, BEARER)
        for _, writer in held:
            writer.close()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("metrics: {listen: 127.0.0.1:9465}", "cert and key are missing"),
        ("metrics: {listen: 127.0.0.1:9465, cert: /c, key: /k}", "client_ca or token_file is missing"),
        ("metrics: {listen: 9465}", "is no address to listen at"),
        ("metrics: {listen: '127.0.0.1:99999'}", "is no address to listen at"),
        ("metrics: {listen: '[::1]:9465'}", "is no address to listen at"),
    ],
)
def test_a_listener_without_proof_of_either_side_is_a_mistake(text: str, why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        loaded(text.encode(), path=Path("agent.yaml"), root=None, hostname="cell-1")


def test_none_is_the_default_and_paths_are_below_the_root() -> None:
    text = b"metrics: {listen: none, cert: /etc/cellnet/m.crt, token_file: /etc/cellnet/token}"
    found = loaded(text, path=Path("agent.yaml"), root=Path("/r"), hostname="cell-1").metrics
    assert found == replace(MetricsSettings(), cert=Path("/r/etc/cellnet/m.crt"), token_file=Path("/r/etc/cellnet/token"))
