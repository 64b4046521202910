"""Attach returns when everything is in place: what comes in the very next instruction is answered as the policies say."""

import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

from host.namespace import run_in
from tests.testlib.cell import CellUnderTest
from tests.testlib.containers import Attach, Container
from tests.testlib.netns import Netns
from tests.testlib.node import Connected, Outcome, Refused, outcome_of

MakeNetns = Callable[[str], Netns]
TLS = 61443
POLICY = "policies:\n- {from: acme/shop/web, to: acme/shop/api, tcp: [8080, 61443], udp: 8080}\n"
# connects to each ADDRESS:PORT in turn, without a program that would have to start first
CLIENT = """
for target; do
    if said=$({ exec 3<>"/dev/tcp/${target%:*}/${target#*:}"; } 2>&1); then echo yes; continue; fi
    case $said in *"Connection refused"*) echo no ;; *) echo "$said" ;; esac
done
"""


def test_a_client_that_run_starts_is_answered_from_its_first_packet(cell: CellUnderTest) -> None:
    api, db = cell.containers("acme/shop/api", "acme/shop/db")
    cell.policy_file("shop.yaml", POLICY)
    targets = [(api, 8080, "yes"), (api, TLS, "yes"), (db, 8080, "no"), (db, TLS, "no")]

    def once(number: int) -> tuple[list[str], list[str]]:
        """With another target first each time."""
        turned = [*targets[number % 4 :], *targets[: number % 4]]
        words = [f"{server.address}:{port}" for server, port, _ in turned]
        run = ("run", "--app", "acme/shop/web", "--name", f"web-{number}", "--")
        said = cell.cellnet(*run, "bash", "-c", CLIENT, "client", *words).out
        return said.split(), [answer for _, _, answer in turned]

    with ThreadPoolExecutor(4) as pool:
        for said, expected in pool.map(once, range(24)):
            assert said == expected
    assert cell.attachments() == ["api", "db"]


def test_a_client_is_answered_the_moment_its_attach_returns(cell: CellUnderTest, attach: Attach) -> None:
    api, db = attach("acme/shop/api"), attach("acme/shop/db")
    for server in (api, db):
        server.listen(8080)
    cell.policy_file("shop.yaml", POLICY)
    for number in range(15):
        web = attach("acme/shop/web", name=f"web-{number}")
        assert web.connect(api, 8080) is Connected
        assert web.dial_tls(api).version() == "TLSv1.3"
        assert (web.connect(db, 8080), web.connect(db, TLS)) == (Refused, Refused)
        web.stop()


def test_a_server_is_reached_the_moment_its_attach_returns(cell: CellUnderTest, attach: Attach, netns: MakeNetns) -> None:
    web, stranger = attach("acme/shop/web"), attach("acme/shop/stranger")
    cell.policy_file("shop.yaml", POLICY)
    place = netns("api")
    with run_in(place.path, lambda: socket.create_server(("", 8080), backlog=1000)):
        for number in range(15):
            api = attach("acme/shop/api", to=place, name=f"api-{number}")
            assert web.dial_tls(api).version() == "TLSv1.3"
            assert web.connect(api, 8080) is Connected
            assert (stranger.connect(api, TLS), stranger.connect(api, 8080)) == (Refused, Refused)
            api.stop()
            assert (web.connect(api, TLS), web.connect(api, 8080)) == (Refused, Refused)


def test_all_of_many_at_once_are_ready_when_their_attach_returns(cell: CellUnderTest, attach: Attach) -> None:
    api = attach("acme/shop/api")
    api.listen(8080)
    cell.policy_file("shop.yaml", POLICY)

    def once(number: int) -> tuple[Outcome, Outcome]:
        web = attach("acme/shop/web", name=f"web-{number}")
        return web.connect(api, 8080), outcome_of(lambda: web.dial_tls(api))

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(once, range(24))) == {(Connected, Connected)}


@contextmanager
def hammered(place: Netns, *targets: tuple[str, int]) -> Iterator[Counter[Outcome]]:
    """Dial all targets without a pause from inside `place`; counts what comes of it."""
    seen: Counter[Outcome] = Counter()
    done = threading.Event()

    def dial(target: tuple[str, int]) -> None:
        socket.create_connection(target, timeout=0.02).close()

    def hammer() -> None:
        while not done.is_set():
            for target in targets:
                seen[outcome_of(partial(dial, target))] += 1

    thread = threading.Thread(target=run_in, args=(place.path, hammer))
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join()


def test_an_address_that_changes_hands_takes_no_rights_along(
    make_cell: Callable[..., CellUnderTest], attach: Attach, netns: MakeNetns
) -> None:
    """One address is free: good and bad get it in turn, and bad dials all the time."""
    cell = make_cell("overlay.cell_prefix=29")
    api = attach("acme/shop/api", on=cell)
    api.listen(8080)
    cell.policy_file("shop.yaml", POLICY.replace("acme/shop/web", "acme/shop/good"))
    for number in range(3):
        attach("acme/shop/filler", name=f"filler-{number}", on=cell)
    place, addresses = netns("bad"), set()

    def put(app: str, *, to: Netns | None = None) -> Container:
        made = attach(app, on=cell, to=to)
        addresses.add(made.address)
        return made

    with hammered(place, (str(api.address), 8080), (str(api.address), TLS)) as seen:
        for _ in range(6):
            good = put("acme/shop/good")
            assert good.dial(api, 8080), good.dial_tls(api)
            good.stop()
            bad = put("acme/shop/bad", to=place)
            assert [bad.connect(api, port) for port in (8080, TLS)] == [Refused, Refused]
            bad.stop()
            api.close()
            api.listen(8080)
    assert len(addresses) == 1
    assert seen[Connected] == 0, seen
    assert seen.total() > 100, seen


def test_a_server_that_comes_to_a_known_address_is_closed_to_its_predecessors_clients(
    make_cell: Callable[..., CellUnderTest], attach: Attach, netns: MakeNetns
) -> None:
    cell = make_cell("overlay.cell_prefix=29")
    cell.policy_file("shop.yaml", POLICY)
    client = netns("web")
    web = attach("acme/shop/web", to=client, on=cell)
    for number in range(3):
        attach("acme/shop/filler", name=f"filler-{number}", on=cell)
    address = str(attach("acme/shop/api", on=cell).address)
    cell.client.delete("/v1/attachments/api")
    place = netns("other")
    with (
        run_in(place.path, lambda: socket.create_server(("", 8080))),
        hammered(client, (address, 8080), (address, TLS)) as seen,
    ):
        for _ in range(6):
            other = attach("acme/shop/other", to=place, on=cell)
            assert str(other.address) == address
            assert [web.connect(other, port) for port in (8080, TLS)] == [Refused, Refused]
            other.stop()
    assert seen[Connected] == 0, seen
    assert seen.total() > 100, seen
