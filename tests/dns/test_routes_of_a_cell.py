"""Routes of apps that run: what is mapped leads to all their instances, certificates follow, and no connection ends."""

import ssl
from collections.abc import Callable

from tests.testlib.cell import CellUnderTest
from tests.testlib.containers import Attach
from tests.testlib.instance import Instance
from tests.testlib.names import certified_names, is_unknown, leads
from tests.testlib.node import Connected, Refused
from tests.testlib.patience import eventually

WEB, API, JOB, FOREIGN = "acme/shop/web", "acme/shop/api", "acme/shop/job", "acme/other/web"
ROUTE, OWN = "backend.apps.internal", "api.shop.acme.cell.internal"
TEMPLATES = "dns.names=['{app}.{space}.cpln.local', '{app}.flat.example']"


def dns_names(caller: Instance, server: Instance) -> list[str]:
    """Those of the certificate that a server shows, without those that begin with its number."""
    return certified_names(caller, server)[1::2]


def goes_on(stream: ssl.SSLSocket) -> bool:
    """Whether more comes over a stream of the app's, see echo_app.py."""
    got = b""
    while len(got) < 50:
        more = stream.recv(4096)
        if not more:
            return False
        got += more
    return True


def test_a_route_that_is_mapped_to_a_running_app_is_in_force_when_the_command_returns(cell: CellUnderTest) -> None:
    web, api = cell.run_app(WEB), cell.run_app(API, port=8080, server=True)
    cell.allow(WEB, API, "tcp/8080", "tcp/61443")
    eventually(lambda: leads(web, OWN, api))
    stream = web.dial_tls(api)
    stream.sendall(b"GET /stream HTTP/1.0\r\n\r\n")
    assert goes_on(stream)
    for _ in range(2):
        cell.cellnet("route", "map", API, ROUTE)
        assert leads(web, ROUTE, api)
        assert dns_names(web, api) == [OWN, ROUTE]
        assert web.get_tls(api, name=ROUTE) == f"hello {web.address}\n"
        assert routes_in_ps(cell, "api") == ROUTE
        assert goes_on(stream)
        cell.cellnet("route", "unmap", ROUTE, API)
        assert is_unknown(web, ROUTE)
        assert dns_names(web, api) == [OWN]
        assert routes_in_ps(cell, "api") == "-"
        assert goes_on(stream)
    cell.wait_well()


def test_an_answer_of_the_api_means_that_resolver_and_envoy_have_it(cell: CellUnderTest, attach: Attach) -> None:
    web = cell.run_app(WEB)
    some = [attach(API, name=f"api-{number}", ports=()) for number in range(20)]
    cell.allow(WEB, API, "tcp/61443")
    eventually(lambda: leads(web, OWN, *some))
    for number, each in enumerate(some):
        host = f"r{number}.apps.internal"
        cell.client.put(f"/v1/routes/{host}", {"app": API})
        assert leads(web, host, *some)
        assert host in dns_names(web, each)
        cell.client.delete(f"/v1/routes/{host}")
        assert is_unknown(web, host)
        assert host not in dns_names(web, each)


def routes_in_ps(cell: CellUnderTest, name: str) -> str:
    """What `ps` has in the column ROUTES."""
    head, *rows = cell.cellnet("ps").out.splitlines()
    start, end = head.index("ROUTES"), head.index("TLS")
    return next(row[start:end].strip() for row in rows if row.startswith(f"{name} "))


def test_apps_of_a_space_share_a_route_and_instances_to_come_have_it(cell: CellUnderTest) -> None:
    web, blue = cell.run_app(WEB), cell.run_app("acme/shop/blue", port=8080, server=True)
    cell.cellnet("route", "map", "acme/shop/blue", ROUTE)
    cell.cellnet("route", "map", "acme/shop/green", ROUTE)
    assert leads(web, ROUTE, blue)
    green = cell.run_app("acme/shop/green", port=8080, server=True)
    asking = cell.run_app("acme/shop/red", port=8080, server=True, routes=[ROUTE])
    eventually(lambda: leads(web, ROUTE, blue, green, asking))
    assert [each.text("instances") for each in cell.client.get("/v1/routes").each()] == ["3"]
    cell.cellnet("route", "unmap", ROUTE, "acme/shop/blue")
    assert leads(web, ROUTE, green, asking)
    cell.cellnet("route", "unmap", ROUTE)
    assert is_unknown(web, ROUTE)
    lost = "red: the route backend.apps.internal, with which it was attached, is mapped to no app"
    assert lost in cell.cellnet("status", code=1).out
    asking.stop()
    cell.wait_well()


def test_the_operators_word_beats_a_claim_and_what_lost_it_is_in_no_answer_and_no_certificate(cell: CellUnderTest) -> None:
    web, api = cell.run_app(WEB), cell.run_app(API, port=8080, server=True, routes=[ROUTE])
    cell.allow(WEB, API, "tcp/61443")
    eventually(lambda: leads(web, ROUTE, api))
    said = cell.cellnet("route", "map", FOREIGN, f"v1.{ROUTE}")
    assert said.out == f"v1.{ROUTE} leads to {FOREIGN}\n"
    assert is_unknown(web, ROUTE)
    assert dns_names(web, api) == [OWN]
    said = cell.cellnet("route", "map", API, ROUTE, code=1)
    assert f"lies above v1.{ROUTE}, of acme/other" in said.err
    api.stop()


def test_a_claim_stays_its_spaces_though_the_attach_that_made_it_came_to_nothing(cell: CellUnderTest, attach: Attach) -> None:
    web = attach(WEB)
    again = ["attach", "--netns", str(web.path), "--name", "again", "--route", ROUTE]
    assert "is attached as 'web' already" in cell.cellnet(*again, "--app", API, code=1).err
    assert [(each.text("host"), each.text("space")) for each in cell.client.get("/v1/routes").each()] == [(ROUTE, "acme/shop")]
    assert "belongs to acme/shop" in cell.cellnet(*again, "--app", FOREIGN, code=1).err
    cell.cellnet("route", "unmap", ROUTE)
    assert list(cell.client.get("/v1/routes").each()) == []


def test_a_name_never_opens_a_port(cell: CellUnderTest) -> None:
    web, api = cell.run_app(WEB), cell.run_app(API, port=8080, server=True)
    cell.cellnet("route", "map", API, ROUTE)
    eventually(lambda: leads(web, ROUTE, api))
    assert web.connect(api, 8080) is Refused
    cell.allow(WEB, API, "tcp/8080")
    assert web.connect(api, 8080) is Connected


def test_a_template_names_every_app_and_a_name_that_two_could_have_is_that_of_the_first(
    make_cell: Callable[..., CellUnderTest],
) -> None:
    cell = make_cell(TEMPLATES)
    web = cell.run_app(WEB, port=8080, server=True)
    cell.allow("same-org", "acme/*/*", "tcp/61443")
    eventually(lambda: leads(web, "web.flat.example", web) and leads(web, "0.web.shop.cpln.local", web))
    other = cell.run_app(FOREIGN, port=8080, server=True, name="other")
    eventually(lambda: leads(web, "web.other.cpln.local", other))
    assert leads(web, "web.flat.example", web)
    assert dns_names(web, web) == ["web.shop.acme.cell.internal", "web.shop.cpln.local", "web.flat.example"]
    eventually(lambda: dns_names(web, other) == ["web.other.acme.cell.internal", "web.other.cpln.local"])
    lost = "acme/other/web is not called web.flat.example, which is the name of acme/shop/web: that had it first"
    assert lost in cell.cellnet("status", code=1).out
    web.stop()
    eventually(lambda: is_unknown(other, "web.flat.example"))
    cell.cellnet("route", "unmap", "web.flat.example")
    eventually(lambda: leads(other, "web.flat.example", other))
    cell.wait_well()
    for name in ("nothing.flat.example", "a.b.cpln.local"):
        assert is_unknown(other, name)
