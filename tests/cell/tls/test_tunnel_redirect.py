"""A stream in strict mode, with a real agent and a real Envoy, whose ways to Envoy root inside takes away at both ends."""

from collections.abc import Callable
from contextlib import ExitStack

from dataplane.tables import host_interface
from tests.testlib.agents.vigilant import VigilantCell
from tests.testlib.attacks.attacker import capture
from tests.testlib.cell import CellUnderTest
from tests.testlib.connections import is_alive
from tests.testlib.node import pair
from tests.testlib.patience import eventually
from tests.testlib.shop import API, WEB, web_to_api

QUESTION, ANSWER = b"a question in plain text", b"an answer in plain text"
TWO_LOOKS = 25.0


def test_a_strict_stream_waits_for_the_next_look_and_never_leaves_in_plain(make_cell: Callable[..., CellUnderTest]) -> None:
    cell = make_cell("tls.mtls=strict", kind=VigilantCell)
    web, api = cell.run_app(WEB), cell.run_app(API)
    cell.policy_file("shop.yaml", web_to_api("tcp: 8080"))
    cell.wait_well()
    asking, answering = pair(web, api, 8080)
    assert is_alive(asking, answering)
    repairs = int(cell.status().text("repairs"))
    with ExitStack() as stack:
        leaving = [stack.enter_context(capture(cell.host, host_interface(each.address))) for each in (web, api)]
        web.run("nft", "delete", "table", "ip", "cellnet")
        api.run("ip", "rule", "delete", "pref", "100")
        asking.sendall(QUESTION)
        answering.sendall(ANSWER)
        for each in (asking, answering):
            each.settimeout(TWO_LOOKS)
        assert (answering.recv(64), asking.recv(64)) == (QUESTION, ANSWER)
        frames = [bytes(frame) for each in leaving for frame in each.pending()]
    assert frames
    assert not [each for each in frames if QUESTION in each or ANSWER in each]
    eventually(lambda: int(cell.status().text("repairs")) > repairs)
