"""cf's words for policies: the same policies as those of `cellnet policy`, seen by other commands."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from agent.cli.cf.network_policy import network_policies_of
from agent.cli.policy.stored import names_of
from agent.client.answer import Fields
from agent.model.policy import ANY_PORT, AppPolicy, Origin, Pattern, Ports, Scope
from tests.cli.conftest import Cli, Done, completed
from tests.testlib.fakes.cell import FakeCell, an_app

PORT = ("--protocol", "tcp", "--port", "8080")
FILE = Origin("/etc/cellnet/policies.d/a.yaml", 3, 5)

pytestmark = pytest.mark.usefixtures("agent")


@pytest.fixture(autouse=True)
def targeted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The space that names without one are of."""
    monkeypatch.setenv("CELLNET_SPACE", "acme/shop")


def from_file(source: Pattern | Scope, to: str, *tcp: Ports, name: str = "of-a-file") -> AppPolicy:
    """A policy that stands in this cell's folder."""
    return AppPolicy(name=name, sources=(source,), to=Pattern.parse(to), tcp=tcp, origin=FILE)


def test_a_policy_is_added_for_tcp_8080_unless_told_otherwise(cellnet: Cli) -> None:
    done = cellnet("add-network-policy", "web", "api")
    assert done == Done(0, "acme/shop/web may reach acme/shop/api on tcp/8080 by web-to-api\nOK\n", "")
    assert cellnet("policy", "check", "web", "api", "tcp/8080").code == 0
    assert "on udp/8080 by" in cellnet("add-network-policy", "web", "db", "--protocol", "udp").out
    assert "on tcp/8080-8090 by" in cellnet("add-network-policy", "web", "cache", "--port", "8080-8090").out
    assert cellnet("policy", "check", "web", "cache", "tcp/8085").code == 0
    made = json.loads(cellnet("add-network-policy", "web", "log", "--protocol", "UDP", "--port", "514", "--json").out)
    assert made["name"] == "web-to-log"


@pytest.mark.parametrize(
    ("words", "to"),
    [
        (("lake", "-s", "data"), "acme/data/lake"),
        (("lake", "-s", "data", "-o", "partners"), "partners/data/lake"),
        (("partners/data/lake",), "partners/data/lake"),
        (("Lake", "-s", "Data"), "acme/data/lake"),
    ],
)
def test_the_space_and_the_org_are_the_destinations(cellnet: Cli, words: Sequence[str], to: str) -> None:
    assert cellnet("add-network-policy", "web", *words).out.startswith(f"acme/shop/web may reach {to} on")
    assert cellnet("remove-network-policy", "web", *words, *PORT).out == "removed web-to-lake\nOK\n"


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (
            ("web", "lake", "-o", "partners"),
            "Name the space, too: -o ORG -s SPACE; hint: see 'cellnet add-network-policy --help'",
        ),
        (("web", "a/b/lake", "-s", "data"), "'a/b/lake' names its space itself: leave out -s and -o; hint: see 'cellnet add-"),
        (("web", "my_app"), "'my_app' in 'acme/shop/my_app' is not a DNS label; hint: use a-z, 0-9 and inner hyphens, 63 at"),
        (("web", "*"), "'*' in 'acme/shop/*' is not a DNS label"),
        (("web", "api", "--port", "0"), "port 0 is out of range; hint: 1 to 65535 is possible"),
        (("web", "api", "--port", "90-80"), "range 90-80 is reversed; hint: did you mean 80-90?"),
        (("web", "api", "--protocol", "icmp"), "Invalid value for '--protocol': 'icmp' is not one of"),
    ],
)
def test_wrong_usage_is_said(cellnet: Cli, cell: FakeCell, words: Sequence[str], error: str) -> None:
    done = cellnet("add-network-policy", *words)
    assert (done.code, done.out, cell.rules) == (2, "", [])
    assert done.err.startswith(f"error: {error}")


def test_without_a_target_an_app_is_named_in_full(cellnet: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CELLNET_SPACE")
    choose = "choose one by 'cellnet target -o ORG -s SPACE'\n"
    assert cellnet("add-network-policy", "acme/shop/web", "acme/shop/api").code == 0
    assert cellnet("add-network-policy", "web", "acme/shop/api").err.startswith(
        "error: 'web' is not an app's name; hint: write"
    )
    done = cellnet("add-network-policy", "acme/shop/web", "api", "-s", "shop")
    assert done == Done(2, "", f"error: there is no org that -s could be of; hint: add -o ORG, or {choose}")
    assert cellnet("network-policies", "--source", "acme/shop/web").code == 0
    done = cellnet("network-policies")
    assert done == Done(2, "", f"error: there is no space whose policies could be listed; hint: {choose}")


def test_what_one_command_adds_the_other_removes(cellnet: Cli, cell: FakeCell) -> None:
    cellnet("add-network-policy", "web", "api")
    assert cellnet("policy", "delete", "web", "api", "tcp/8080") == Done(0, "deleted web-to-api\n", "")
    cellnet("policy", "allow", "web", "api", "tcp/8080-8090", "--name", "mine")
    cellnet("policy", "allow", "web", "api", "tcp/8080-8090", "--name", "mine-too")
    done = cellnet("remove-network-policy", "web", "api", "--protocol", "tcp", "--port", "8080-8090")
    assert done == Done(0, "removed mine\nremoved mine-too\nOK\n", "")
    assert cell.rules == []


def test_a_policy_that_is_not_there_is_removed_already(cellnet: Cli) -> None:
    for app in ("web", "api"):
        cellnet("attach", "--app", app, "--netns", "/run/netns/x")
    nothing = "there is no such policy\nOK\n"
    assert cellnet("remove-network-policy", "web", "api", *PORT) == Done(0, nothing, "")
    assert json.loads(cellnet("remove-network-policy", "web", "api", *PORT, "--json").out) == {"removed": []}
    mistyped = "warning: nothing of acme/shop/ap runs here or is named; did you mean acme/shop/api?\n"
    assert cellnet("remove-network-policy", "web", "ap", *PORT) == Done(0, nothing, mistyped)


def test_what_is_removed_is_named_in_full(cellnet: Cli) -> None:
    done = cellnet("remove-network-policy", "web", "api", "--port", "8080")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: Missing option '--protocol'")


@pytest.mark.parametrize(
    "other",
    [
        from_file(an_app("acme/shop/web"), "acme/shop/api", Ports(8000, 8080)),
        from_file(Scope.SAME_SPACE, "acme/shop/*", ANY_PORT),
        from_file(Pattern("acme", None, None), "acme/*/*", Ports(8080, 8080), name="mine"),
    ],
)
def test_what_stays_open_by_another_policy_is_said(cellnet: Cli, cell: FakeCell, other: AppPolicy) -> None:
    cell.rules.append(other)
    by = f"acme/shop/web to acme/shop/api on tcp/8080 {{}} open by {other.name} (/etc/cellnet/policies.d/a.yaml:3)"
    done = cellnet("remove-network-policy", "web", "api", *PORT)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith(
        f"error: {by.format('is')}, and the store has no policy for exactly that; hint: 'cellnet policy d"
    )
    cellnet("policy", "allow", "web", "api", "tcp/8080", "--name", "mine")
    done = cellnet("remove-network-policy", "web", "api", *PORT)
    assert done == Done(0, "removed mine\nOK\n", f"warning: {by.format('stays')}\n")
    assert cell.rules == [other]


@pytest.mark.parametrize(
    "other",
    [
        from_file(an_app("acme/shop/web"), "acme/shop/api", Ports(8000, 8079), Ports(8081, 8081)),
        from_file(an_app("acme/shop/api"), "acme/shop/web", ANY_PORT),
        from_file(Scope.SAME_SPACE, "acme/data/*", ANY_PORT),
        AppPolicy(name="udp", sources=(an_app("acme/shop/web"),), to=an_app("acme/shop/api"), udp=(ANY_PORT,), origin=FILE),
    ],
)
def test_what_opens_something_else_is_not(cellnet: Cli, cell: FakeCell, other: AppPolicy) -> None:
    cell.rules.append(other)
    done = cellnet("remove-network-policy", "web", "api", *PORT)
    assert (done.code, done.out) == (0, "there is no such policy\nOK\n")


def test_a_part_of_a_policy_is_not_taken_out_of_it(cellnet: Cli, cell: FakeCell) -> None:
    cellnet("policy", "allow", "web", "api", "tcp/8080", "udp/53", "--name", "both")
    done = cellnet("remove-network-policy", "web", "api", *PORT)
    assert (done.code, len(cell.rules)) == (1, 1)
    assert "is open by both (store), and the store has no policy for exactly that" in done.err


@pytest.fixture
def listed(cell: FakeCell) -> FakeCell:
    """Policies of all kinds."""
    web, blog = an_app("acme/shop/web"), an_app("acme/blog/web")
    cell.rules += [
        AppPolicy(
            name="1",
            sources=(web, blog),
            to=an_app("acme/shop/api"),
            tcp=(Ports(8080, 8080), Ports(9000, 9010)),
            udp=(Ports(53, 53),),
            origin=FILE,
        ),
        AppPolicy(
            name="2",
            sources=(an_app("acme/shop/api"),),
            to=an_app("partners/data/lake"),
            tcp=(ANY_PORT,),
            origin=Origin("store"),
        ),
        from_file(Pattern("acme", "shop", None), "acme/data/*", Ports(1, 1)),
        from_file(Pattern("acme", None, None), "acme/*/*", Ports(2, 2)),
        from_file(Scope.SAME_SPACE, "acme/shop/*", Ports(3, 3)),
        from_file(Scope.SAME_ORG, "acme/data/*", Ports(4, 4)),
        from_file(Scope.SAME_SPACE, "acme/data/*", Ports(5, 5)),
        from_file(Scope.SAME_ORG, "partners/data/*", Ports(6, 6)),
        from_file(Pattern("acme", "blog", None), "acme/shop/*", Ports(7, 7)),
    ]
    return cell


@pytest.mark.usefixtures("listed")
def test_policies_are_listed_by_source_protocol_and_ports_as_in_cf(cellnet: Cli) -> None:
    assert cellnet("network-policies").out == (
        "source      destination  protocol  ports      destination space  destination org  origin\n"
        "web         api          tcp       8080       shop               acme             /etc/cellnet/policies.d/a.yaml:3\n"
        "web         api          tcp       9000-9010  shop               acme             /etc/cellnet/policies.d/a.yaml:3\n"
        "web         api          udp       53         shop               acme             /etc/cellnet/policies.d/a.yaml:3\n"
        "api         lake         tcp       any        data               partners         store\n"
        "*           *            tcp       1          data               acme             /etc/cellnet/policies.d/a.yaml:3\n"
        "acme/*/*    *            tcp       2          *                  acme             /etc/cellnet/policies.d/a.yaml:3\n"
        "same-space  *            tcp       3          shop               acme             /etc/cellnet/policies.d/a.yaml:3\n"
        "same-org    *            tcp       4          data               acme             /etc/cellnet/policies.d/a.yaml:3\n"
    )


@pytest.mark.usefixtures("listed")
def test_policies_of_one_source_are_those_that_let_it_out(cellnet: Cli) -> None:
    def ports(*words: str) -> list[str]:
        return [each["ports"] for each in json.loads(cellnet("network-policies", *words, "--json").out)]

    assert ports("--source", "Web") == ["8080", "9000-9010", "53", "1", "2", "3", "4"]
    assert ports("--source", "api") == ["any", "1", "2", "3", "4"]
    assert ports("--source", "acme/blog/web") == ["8080", "9000-9010", "53", "2", "4", "7"]
    assert ports("--source", "partners/data/lake") == ["6"]
    first = json.loads(cellnet("network-policies", "--json").out)[0]
    assert first == {
        "source": "acme/shop/web", "destination": "acme/shop/api", "protocol": "tcp", "ports": "8080", "policy": "1",
        "origin": "/etc/cellnet/policies.d/a.yaml:3",
    }  # fmt: skip


def test_what_concerns_the_outside_is_no_network_policy() -> None:
    outside, store = {"cidr": ["0.0.0.0/0"]}, {"source": "store", "line": None, "column": None}
    ends = ((["acme/shop/web"], outside), (outside, "acme/shop/web"))
    found = Fields(
        [{"name": "x", "from": a, "to": b, "tcp": ["80"], "udp": [], "icmp": None, "origin": store} for a, b in ends]
    )
    assert list(network_policies_of(found)) == []
    assert names_of(found, source="acme/shop/web", to="acme/shop/web", tcp=["80"]) == ()


def test_the_operators_rights_go_with_the_request(cellnet: Cli, cell: FakeCell, tmp_path: Path) -> None:
    file = tmp_path / "operator.yaml"
    file.write_text("username: operator\npassword: secret\n")
    file.chmod(0o600)
    cellnet("add-network-policy", "web", "api", "--store-credentials", str(file))
    cellnet("remove-network-policy", "web", "api", *PORT, "--store-credentials", str(file))
    assert [each.username for each in cell.operators if each is not None] == ["operator", "operator"]


def test_apps_spaces_and_orgs_are_completed(agent: Path, cellnet: Cli) -> None:
    for app in ("acme/shop/web", "acme/data/lake", "partners/deep/sea"):
        cellnet("attach", "--app", app, "--netns", "/run/netns/x")
    assert completed(agent, "add-network-policy ") == ["web", "acme/data/lake", "acme/shop/web", "partners/deep/sea"]
    assert completed(agent, "remove-network-policy web acme/d") == ["acme/data/lake"]
    assert completed(agent, "network-policies --source W") == ["web"]
    assert completed(agent, "add-network-policy web lake -s ") == ["data", "deep", "shop"]
    assert completed(agent, "add-network-policy web lake -o acme -s D") == ["data"]
    assert completed(agent, "add-network-policy web lake -o ") == ["acme", "partners"]
    assert completed(agent, "target -o p") == ["partners"]
