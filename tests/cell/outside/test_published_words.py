"""What a cell says of published ports: which are taken and by what, and where nothing listens."""

from tests.testlib.cell import CellUnderTest
from tests.testlib.explained import explained
from tests.testlib.instance import Instance
from tests.testlib.outside import passes
from tests.testlib.patience import eventually

WEB, API = "acme/shop/web", "acme/shop/api"


def publish(cell: CellUnderTest, *ports: str) -> Instance:
    """Web, with these published."""
    return cell.run_app(WEB, options=[word for each in ports for word in ("--publish", each)])


def test_a_port_that_is_taken_is_a_conflict_which_says_by_what(cell: CellUnderTest) -> None:
    publish(cell, "7000:80", "7100-7110:7100-7110/udp", f"{cell.host.address}:7200:80")
    cell.host.listen(7300)
    cell.host.datagrams(7301)
    cell.host.listen(7302, address="127.0.0.1")
    for port, why in (
        ("7000:81", "port 7000/tcp of this host is published by 'web'"),
        ("7090-7100:1-11/udp", "port 7100-7110/udp of this host is published by 'web'"),
        ("7200:80", f"port {cell.host.address}:7200/tcp of this host is published by 'web'"),
        ("7300:80", "port 7300/tcp of this host is taken: "),
        ("7290-7310:7290-7310/udp", "port 7301/udp of this host is taken: "),
        ("4789:80/udp", "port 4789/udp of this host is not published: the tunnels between cells end there"),
        ("7400:15008", "port 15008 is cellnet's own in every container"),
    ):
        done = cell.cellnet("run", "--app", API, "--publish", port, "--", "true", code=None)
        assert done.code in (1, 2), port
        assert why in done.err, port
        assert "hint: " in done.err
    for port in ("7000:80/udp", "7302:80", "192.0.2.7:7200:80"):
        cell.cellnet("run", "--app", API, "--publish", port, "--", "true")


def test_a_program_that_takes_a_published_port_later_is_named_in_the_status(cell: CellUnderTest) -> None:
    publish(cell, "7000:80")
    with cell.host.listen(7000):
        eventually(lambda: "port 7000/tcp of this host is taken" in _problems(cell))
    eventually(lambda: "7000" not in _problems(cell))


def test_ps_says_where_nothing_listens_and_a_call_is_refused_there_at_once(cell: CellUnderTest) -> None:
    web = cell.run_app(WEB, options=["--publish", "7000:81", "--publish", "7443:tls", "--publish", "7001:53/udp"])
    cell.allow("0.0.0.0/0", WEB, "tcp/any", "udp/any")
    assert "7000:81 (nothing listens), 7443:tls, 7001:53/udp (nothing listens)" in cell.cellnet("ps").out
    for protocol, port in (("tcp", 7000), ("udp", 7001)):
        assert not passes(cell.outside, str(cell.host.address), protocol, port)
    web.listen(81)
    assert "7000:81, 7443:tls, 7001:53/udp (nothing listens)" in cell.cellnet("ps").out
    assert passes(cell.outside, str(cell.host.address), "tcp", 7000)


def test_policy_check_says_of_an_address_what_is_in_force(cell: CellUnderTest) -> None:
    publish(cell, "7000:8080")
    cell.allow("203.0.113.0/24", WEB, "tcp/8080", "--name", "in")
    for address, code in (("203.0.113.9", 0), ("203.0.114.9", 1)):
        done = cell.cellnet("policy", "check", address, WEB, "tcp/8080", code=code)
        assert ("allowed by in" in done.out) is not code
        assert "publishes" not in done.err
    cell.cellnet("detach", "web")
    done = cell.cellnet("policy", "check", "203.0.113.9", WEB, "tcp/8080")
    assert f"nothing of {WEB} on this cell publishes tcp/8080, which is a port inside of it" in done.err


def test_what_the_host_itself_may_call_is_told_as_it_is(cell: CellUnderTest) -> None:
    web = publish(cell, "7000:8080")
    own, port = str(cell.host.address), "tcp/8080"
    web.listen(8080)
    web.listen(9000)
    assert passes(cell.host, own, "tcp", 7000)
    assert passes(cell.host, str(web.address), "tcp", 9000)
    assert "allowed by this host" in cell.cellnet("policy", "check", own, WEB, port).out
    for each in (port, "tcp/9000"):
        assert explained(cell, own, WEB, each).endswith("it works")
    assert explained(cell, str(cell.outside.address), WEB, port).endswith("it does not work")


def _problems(cell: CellUnderTest) -> str:
    return " ".join(each.text("what") for each in cell.status().at("problems").each())
