"""Names under any writing of any cells, in any order: what holds may never be torn or taken away."""

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.model.cell import Endpoint
from agent.model.names import AppName, Space
from agent.model.routes import Route, Routes, names_above
from tests.testlib.stores.name_view import BLOG, HOST, KEYS, PRESS, SHOP, WEB, NameView

HOSTS = [HOST, f"a.{HOST}", f"b.a.{HOST}", "other.apps.internal"]
APPS: dict[Space, AppName] = {SHOP: WEB, BLOG: PRESS}
TAMPERING = ["claim", "rewrite", "remake", "delete", "spoil"]
step = st.tuples(
    st.sampled_from([*TAMPERING, *TAMPERING, "map", "free", "run", "run", "end", "wait", "restart"]),
    st.sampled_from(HOSTS),
    st.sampled_from([SHOP, BLOG]),
)


class Walk:
    """A view, and the instances that run."""

    def __init__(self) -> None:
        self.view = NameView()
        self.running: list[Endpoint] = []

    def go(self, what: str, host: str, space: Space) -> None:
        view, key = self.view, KEYS.claimed_route(host)
        if what in ("claim", "rewrite"):
            if what == "rewrite" or key not in view.values:
                view.claim(host, space)
        elif what == "remake":
            view.remake(host, space)
        elif what == "delete":
            view.delete(key)
        elif what == "spoil":
            view.put(key, b"nonsense")
        elif what == "map":
            others = [view.found.routes[each] for each in HOSTS if each in view.found.routes and related(each, host)]
            if all(each.space == space for each in others if each.by_operator):
                view.operate(host, Route(host, space, frozenset({APPS[space]}), by_operator=True))
        elif what == "free":
            view.operate(host, None)
        elif what == "run":
            self.running.append(view.run(APPS[space], host))
        elif what == "end" and self.running:
            view.end(self.running.pop())
        elif what == "wait":
            view.wait()
        elif what == "restart":
            self.view = view.restarted()
            for each in self.running:
                self.view.run(each.app, *each.routes)

    def kept(self) -> dict[str, Space]:
        """What no cell may take away: names by which an instance of their space runs."""
        spaces, running = self.view.spaces, {(host, Space.of(each.app)) for each in self.running for host in each.routes}
        return {host: space for host, space in spaces.items() if (host, space) in running}


def related(one: str, other: str) -> bool:
    return one == other or one in names_above(other) or other in names_above(one)


@settings(max_examples=300, deadline=None)
@given(st.lists(step, max_size=25))
def test_no_writing_of_cells_takes_a_name_away_or_gives_two_spaces_names_below_each_other(
    steps: list[tuple[str, str, Space]],
) -> None:
    walk = Walk()
    for what, host, space in steps:
        before, kept = walk.view.found.routes, walk.kept()
        walk.go(what, host, space)
        routes = walk.view.found.routes
        if what in TAMPERING or what in ("run", "wait", "restart"):
            assert {each: walk.view.spaces.get(each) for each in kept} == kept, what
        for one in routes.values():
            assert all(one.space == other.space for other in routes.values() if related(one.host, other.host))
        assert routes == Routes(dict(routes))
        assert routes is before or dict(routes) != dict(before) or what == "restart"
