"""What answers the API: a class for each subject, made of the parts of the agent."""

from dataclasses import replace
from functools import partial

from aiohttp import web

from agent.control.api.apps import AppsApi
from agent.control.api.ca import CaApi
from agent.control.api.cells import CellsApi
from agent.control.api.config import ConfigApi
from agent.control.api.containers.attachments import AttachmentsApi
from agent.control.api.containers.containers import ContainersApi
from agent.control.api.containers.views import AttachmentViews
from agent.control.api.drain import DrainApi
from agent.control.api.insight.denied import DeniedApi
from agent.control.api.insight.explain import ExplainApi
from agent.control.api.insight.flows import FlowsApi
from agent.control.api.insight.history import HistoryApi
from agent.control.api.insight.summaries import SummariesApi
from agent.control.api.policy.changes import PolicyChangesApi
from agent.control.api.policy.check import OutsideDefaults, PolicyCheck
from agent.control.api.policy.policies import PoliciesApi
from agent.control.api.policy.unused import UnusedPoliciesApi
from agent.control.api.rotation import RotationApi
from agent.control.api.routes import RoutesApi
from agent.control.api.spaces import SpacesApi
from agent.control.api.status import StatusApi
from agent.control.config_in_force import ConfigInForce
from agent.control.enforcement import Enforcement
from agent.control.names_in_force import NamesInForce
from agent.daemon.parts.explain import make_explanation, make_tries, own_addresses
from agent.daemon.parts.foundation import Foundation
from agent.daemon.parts.parts import Parts
from agent.insight.foreseen_cuts import CutForecast
from agent.metrics import Levels
from agent.model.status import Part, problems_of


def api_routes(base: Foundation, parts: Parts, in_force: ConfigInForce, reports: tuple[Part, ...]) -> list[web.RouteDef]:
    """The API, a class for each subject."""
    config, clock, storage, enforcement = base.config, base.clock, base.storage, Enforcement(parts.loop)
    views = AttachmentViews(
        files=parts.files, leaves=parts.leaves, listeners=parts.listeners, facts=base.facts, naming=parts.names.naming,
        published=parts.published, is_ready=parts.names.readiness.is_ready, now=clock.now,
    )  # fmt: skip
    attachments = AttachmentsApi(
        parts.attaching, views=views, facts=base.facts, published=parts.published, metrics=parts.metrics, now=clock.now
    )
    rotation = RotationApi(
        config.cell, parts.leaves, own=lambda: parts.announcement.roots, store=storage.trust, cells=storage.cells,
        shared=storage.shared, elapsed=clock.elapsed, now=clock.now,
    )  # fmt: skip
    apps, reporting = _apps(base, parts), (*reports, attachments, rotation)
    apis = (
        attachments,
        _containers(base, parts, attachments),
        ConfigApi(in_force, enforcement=enforcement),
        DrainApi(parts.drain, enforced=enforcement.next),
        apps,
        SpacesApi(base.declared, known=parts.known, enforcement=enforcement),
        _policies(base, parts, enforcement, apps),
        RoutesApi(
            storage.routes,
            parts.names.naming,
            known=parts.known,
            in_force=NamesInForce(parts.leaves, enforcement, parts.loop.envoy).next,
            instances=parts.names.endpoints.instances,
            leads=apps.leads,
        ),
        *_insight(base, parts),
        _explain(base, parts, apps, reporting),
        CellsApi(config.cell, store=storage.cells, enforcement=enforcement, now=clock.seconds),
        rotation,
        CaApi(parts.leaves, folder=config.paths.ca, store=storage.trust, enforcement=enforcement, now=clock.now),
        StatusApi(
            reporting,
            policies=parts.policies,
            shared=storage.shared,
            enforcement=enforcement,
            metrics=lambda: parts.metrics.text(_levels(parts, reporting), now=clock.now()),
        ),
    )
    return [route for each in apis for route in each.routes()]


def _insight(
    base: Foundation, parts: Parts
) -> tuple[DeniedApi, FlowsApi, HistoryApi, SummariesApi, UnusedPoliciesApi, PolicyChangesApi]:
    cell, insight, attached = base.config.cell, parts.insight, parts.attaching.attached
    return (
        DeniedApi(insight.denied, insight.later, cell=cell),
        FlowsApi(insight.looks, insight.followers, insight.followed, cell=cell),
        HistoryApi(insight.history, cell=cell, now=base.clock.now),
        SummariesApi(insight.summaries, cells=base.storage.cells.cells),
        UnusedPoliciesApi(insight.use, apps=lambda: {each.app for each in attached()}),
        PolicyChangesApi(insight.trail),
    )


def _apps(base: Foundation, parts: Parts) -> AppsApi:
    return AppsApi(
        base.config.cell,
        attaching=parts.attaching,
        is_ready=parts.names.readiness.is_ready,
        cells=base.storage.cells,
        routes=base.storage.routes,
        known=parts.known,
    )


def _containers(base: Foundation, parts: Parts, attachments: AttachmentsApi) -> ContainersApi:
    return ContainersApi(
        attachments,
        attaching=parts.attaching,
        places=parts.places,
    )


def _policies(base: Foundation, parts: Parts, enforcement: Enforcement, apps: AppsApi) -> PoliciesApi:
    defaults = _outside_defaults(base, parts)
    cuts = CutForecast(base.kernel, applied=parts.loop.applied, tags=base.storage.tags.tags).of
    known, now = parts.known, base.clock.now
    return PoliciesApi(
        parts.policies, known=known, enforcement=enforcement, defaults=defaults, now=now, cuts=cuts, trail=parts.insight.trail,
        running=lambda: {*apps.instances(), *base.declared.all()}, of_cells=parts.of_cells,
    )  # fmt: skip


def _explain(base: Foundation, parts: Parts, apps: AppsApi, reporting: tuple[Part, ...]) -> ExplainApi:
    check = PolicyCheck(parts.policies, known=parts.known, defaults=_outside_defaults(base, parts), of_cells=parts.of_cells)
    problems = partial(problems_of, reporting)
    return ExplainApi(make_explanation(base, parts, apps=apps, check=check, problems=problems), make_tries(base, parts))


def _outside_defaults(base: Foundation, parts: Parts) -> OutsideDefaults:
    return replace(
        parts.outside.defaults, leads_to=parts.published.leads_to, own=partial(own_addresses, base),
        app_at=parts.names.endpoints.app_at,
    )  # fmt: skip


def _levels(parts: Parts, reporting: tuple[Part, ...]) -> Levels:
    envoy, ends, leaf_ends = parts.ads.status(), parts.leaves.expiries(), parts.leaves.next_expiry()
    return Levels(
        attachments=len(parts.attaching.attached()),
        rules=parts.loop.rule_count,
        envoy_connected=envoy.connected,
        envoy_refused=len(envoy.refused),
        envoy_pushed=envoy.pushed,
        dns_answers=parts.resolver.liveness.answers,
        named_instances=parts.loop.names.published,
        problems=len(problems_of(reporting)),
        lost_refusals=parts.pressure.lost(),
        limit_hits=parts.limits.by_limit(),
        flows=parts.insight.summaries.flows(),
        expiries={"root": ends.root_not_after, "cell": ends.cell_not_after} | ({"leaf": leaf_ends} if leaf_ends else {}),
    )
