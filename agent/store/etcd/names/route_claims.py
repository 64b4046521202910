"""Which space has which route: what the operator says, and else the claims of cells, as each was seen first."""

from collections.abc import Callable, Iterable

from agent.model.names import Space
from agent.model.routes import Route, names_above
from agent.store.etcd.names.first_claims import FirstClaims, Obstacle
from agent.store.etcd.names.order import NameOrder


class RouteClaims(FirstClaims[Space]):
    """`operator` has the routes that the operator has mapped; one that was freed is not among them."""

    def __init__(self, *, lives: Callable[[str, Space], bool], now: Callable[[], float]) -> None:
        super().__init__(lives=lives, now=now)
        self.operator: dict[str, Route] = {}
        self._mapped = NameOrder()
        self._claimed = NameOrder()

    def set_operators(self, host: str, route: Route | None) -> set[str]:
        """What the operator says of one route now, which ends what was claimed of it before. The names to be judged anew."""
        self.forget(host)
        self._mapped.discard(host)
        self.operator.pop(host, None)
        if route is not None:
            self.operator[host] = route
            self._mapped.add(host)
        beside = [name for name in self._around(host, self._claimed) if name in self.holds]
        return {host, *beside, *self.behind(host)}

    def set_holder(self, name: str, owner: Space | None) -> None:
        """See FirstClaims."""
        super().set_holder(name, owner)
        if owner is None:
            self._claimed.discard(name)
        else:
            self._claimed.add(name)

    def route(self, host: str) -> Route | None:
        """The one that holds."""
        claimed = self.holds.get(host)
        return self.operator.get(host) or (None if claimed is None else Route(host, claimed))

    def ended(self, name: str, owner: Space) -> Obstacle | None:
        """The operator's routes end claims to the same name, and those of other spaces above and below."""
        if name in self.operator:
            space = self.operator[name].space
            return Obstacle(name, "" if space == owner else f"it names {owner}, but the operator has given it to {space}")
        for other in self._around(name, self._mapped):
            route = self.operator.get(other)
            if route is not None and route.space != owner:
                return Obstacle(other, f"it names {owner}, but the operator has given {other} to {route.space}")
        return None

    def rival(self, name: str, owner: Space) -> Obstacle | None:
        """Another space's claim above or below."""
        for other in self._around(name, self._claimed):
            space = self.holds.get(other, owner)
            if space != owner:
                return Obstacle(other, f"it names {owner}, but {space} had {other} before")
        return None

    @staticmethod
    def _around(name: str, order: NameOrder) -> Iterable[str]:
        yield from names_above(name)
        yield from order.below(name)
