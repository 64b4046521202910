"""Three apps, a policy between two of them, and live connections of every kind: what must go on whoever dies."""

import socket

from tests.testlib.cell import CellUnderTest
from tests.testlib.instance import TLS_PORT, Instance
from tests.testlib.policed import is_alive
from tests.testlib.standpoint import Connected, Refused, pair

WEB, API, OTHER = "acme/shop/web", "acme/shop/api", "acme/shop/other"
POLICY = f"policies:\n- {{from: {WEB}, to: {API}, tcp: [8080, 9000, 61443], udp: 8080}}\n"


def three(cell: CellUnderTest) -> tuple[Instance, Instance, Instance]:
    web, api, other = cell.containers(WEB, API, OTHER)
    cell.policy_file("shop.yaml", POLICY)
    return web, api, other


class Live:
    """Connections of every kind from web to api, old when something happens."""

    def __init__(self, web: Instance, api: Instance) -> None:
        self._tcp, self._idle = web.dial(api, 8080), pair(web, api, 9000)
        self._tls = web.dial_tls(api)
        self._udp = web.datagrams()
        self._udp.connect((str(api.address), 8080))
        assert self.go_on()

    def go_on(self) -> bool:
        """Whether each still carries bytes both ways."""
        return all(map(echoed, (self._tcp, self._tls, self._udp))) and is_alive(*self._idle)


def echoed(connection: socket.socket) -> bool:
    connection.send(b"echo")
    return connection.recv(4) == b"echo"


def as_policies_say(web: Instance, api: Instance, other: Instance) -> bool:
    """New connections: what is allowed answers, what is not is refused."""
    allowed = (web.connect(api, 8080), web.udp(api, 8080), web.connect(api, TLS_PORT))
    refused = (web.connect(api, 8081), web.udp(api, 8081), api.connect(web, 8080), other.connect(api, 8080),
               other.udp(api, 8080), other.connect(api, TLS_PORT))  # fmt: skip
    pages = (web.get(api, 8080), web.get_tls(api))
    return set(allowed) == {Connected} and set(refused) == {Refused} and set(pages) == {f"hello {web.address}\n"}
