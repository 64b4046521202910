"""The example that most tests of real cells use: the apps web, api and other of acme/shop, and policies between them."""

from tests.testlib.cell import CellUnderTest
from tests.testlib.instance import TLS_PORT, Instance
from tests.testlib.node import Connected, Refused

WEB, API, OTHER = "acme/shop/web", "acme/shop/api", "acme/shop/other"
POLICY = f"policies:\n- {{from: {WEB}, to: {API}, tcp: [8080, 9000, 61443], udp: 8080}}\n"

SOURCE_APPS = ("acme/shop/web", "acme/shop/job", "acme/bank/web", "acme/bank/job", "other/shop/web")
ALLOWED_SOURCES = {
    "same-space": {"acme/shop/web", "acme/shop/job"},
    "same-org": {"acme/shop/web", "acme/shop/job", "acme/bank/web", "acme/bank/job"},
    "acme/bank/*": {"acme/bank/web", "acme/bank/job"},
    "acme/*/*": {"acme/shop/web", "acme/shop/job", "acme/bank/web", "acme/bank/job"},
    "[acme/shop/job, other/shop/web]": {"acme/shop/job", "other/shop/web"},
    "[other/shop/*, same-space]": {"other/shop/web", "acme/shop/web", "acme/shop/job"},
}
"""Ways to name the sources of a policy to an app of acme/shop, and those of SOURCE_APPS that each allows."""


def policies(*rules: str) -> str:
    """A policy file: `from: acme/shop/web, to: acme/shop/api, tcp: 8080` for each."""
    return "policies:\n" + "".join(f"- {{{each}}}\n" for each in rules)


def web_to_api(*ports: str) -> str:
    """A policy file: `tcp: 8080` for each."""
    return policies(*(f"from: {WEB}, to: {API}, {each}" for each in ports))


def three_apps(cell: CellUnderTest) -> tuple[Instance, Instance, Instance]:
    """One instance each of web, api and other; POLICY is in force."""
    web, api, other = cell.containers(WEB, API, OTHER)
    cell.policy_file("shop.yaml", POLICY)
    return web, api, other


def follows_policy(web: Instance, api: Instance, other: Instance) -> bool:
    """Whether new connections are what POLICY says: what is allowed answers, what is not is refused."""
    allowed = (web.connect(api, 8080), web.udp(api, 8080), web.connect(api, TLS_PORT))
    refused = (web.connect(api, 8081), web.udp(api, 8081), api.connect(web, 8080), other.connect(api, 8080),
               other.udp(api, 8080), other.connect(api, TLS_PORT))  # fmt: skip
    pages = (web.get(api, 8080), web.get_tls(api))
    return set(allowed) == {Connected} and set(refused) == {Refused} and set(pages) == {f"hello {web.address}\n"}
