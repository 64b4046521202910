"""Which space has which route: one pure rule for every store.

What each function returns are the changes by host (None: no longer), for Routes.after.
"""

from dataclasses import replace

from agent.errors import InvalidInput
from agent.model.attachment import check_route
from agent.model.names import AppName, Space
from agent.model.routes import Route, Routes, refuse_numbered
from agent.store.refusals import belongs_to_another, no_such_route, not_mapped

PARTS = 32  # of a name: each that contains it is compared where it is claimed
Changes = dict[str, Route | None]


def check(host: str) -> None:
    """Raises InvalidInput for a name that can be no route at all."""
    check_route(host)
    refuse_numbered(host)
    if host.count(".") >= PARTS:
        raise InvalidInput(f"the route {host} has more than {PARTS} parts", hint="choose a shorter name")


def claim(routes: Routes, host: str, space: Space) -> Changes:
    """An attach wants it for its space. Raises Conflict, InvalidInput."""
    check(host)
    held = routes.get(host)
    if held is not None and held.space == space:
        return {}
    for other in routes.related(host):
        if other.space != space:
            raise belongs_to_another(host, other)
    return {host: Route(host, space)}


def mapped(routes: Routes, host: str, app: AppName) -> Changes:
    """The operator gives it to an app: claims of other spaces to it, above and below it end. Raises Conflict, InvalidInput."""
    check(host)
    space = Space.of(app)
    beaten = [other for other in routes.related(host) if other.space != space]
    for other in beaten:
        if other.by_operator:
            raise belongs_to_another(host, other)
    held = routes.get(host)
    if held is None or held.space != space:
        held = Route(host, space)
    after = replace(held, apps=held.apps | {app}, without=held.without - {app}, by_operator=True)
    return {**{other.host: None for other in beaten}, host: after}


def unmapped(routes: Routes, host: str, app: AppName | None) -> Changes:
    """The operator takes it from an app, or from its space. Raises NotFound."""
    held = routes.get(host)
    if held is None:
        raise no_such_route(host, known=routes)
    if app is None:
        return {host: None}
    if app not in held.apps and Space.of(app) != held.space:
        raise not_mapped(held, app)
    return {host: replace(held, apps=held.apps - {app}, without=held.without | {app}, by_operator=True)}
