"""Names of the apps of one cell, as the apps meet them: they lead to what serves, and to nothing else."""

from tests.testlib.cell import CellUnderTest
from tests.testlib.dns_client import Code, ask
from tests.testlib.instance import Instance
from tests.testlib.node import Node, Refused
from tests.testlib.patience import eventually

WEB, API = "acme/shop/web", "acme/shop/api"
NAME, ROUTE = "api.shop.acme.cell.internal", "backend.apps.internal"


def addresses(node: Node, name: str) -> set[str]:
    """What a name leads to, as a container is answered."""
    found = ask(node, name)
    assert found.code in (Code.NOERROR, Code.NXDOMAIN)
    return {str(each) for each in found.addresses}


def leads(node: Node, name: str, *to: Instance) -> bool:
    return addresses(node, name) == {str(each.address) for each in to}


def test_an_app_finds_another_by_each_of_its_names_and_reaches_it_where_a_policy_says_so(cell: CellUnderTest) -> None:
    web, api = cell.run_app(WEB), cell.run_app(API, port=8080, server=True, routes=[ROUTE])
    eventually(lambda: leads(web, NAME, api))
    for name in (NAME, f"0.{NAME}", ROUTE, f"0.{ROUTE}"):
        assert leads(web, name, api)
    assert web.connect(api, 8080) is Refused  # a name opens no port
    web.exec("curl", "-s", f"http://{NAME}:8080/", code=7)  # it could not connect
    cell.allow(WEB, API, "tcp/8080")
    for name in (NAME, ROUTE, "api", "api.shop", f"0.{NAME}"):
        assert web.exec("curl", "-s", f"http://{name}:8080/") == f"hello {web.address}\n"
    assert web.exec("getent", "hosts", str(api.address)).split()[1] == f"0.{NAME}"
