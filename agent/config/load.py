"""agent.yaml, overrides and defaults become one Config, or every mistake in them is reported at once."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from agent.config import texts
from agent.config.config import DEFAULT, Config
from agent.config.file import ConfigFile, digest_of, read
from agent.config.name_templates import template_conflicts
from agent.config.paths import Paths, all_below, below, derived
from agent.config.problems import Report, raise_all
from agent.config.settings import ConfiguredValue, fields_of, read_file, read_override
from agent.config.source import Listing
from agent.errors import InvalidInput
from dataplane.state import INBOUND_PORT, OUTBOUND_PORT
from dataplane.tables import GATEWAY

PATHS = ("policies", *(f"paths.{each.name}" for each in fields_of(Paths)))
SOCKET_LIMIT = 107  # bytes that the kernel takes for the path of a unix socket


def load(path: Path, *, root: Path | None, hostname: str, overrides: Sequence[str] = (), required: bool = False) -> Config:
    """The configuration in the file `path`; a missing file means the defaults, unless it is `required`.

    `root` (absolute) prefixes every path but Envoy's binary; `overrides` are `KEY=VALUE` (see `read_override`) and win
    over the file, a later one over an earlier. `hostname` names the cell where nothing else does.
    Raises InvalidSource with all problems, HostRefused where the file cannot be read.
    """
    return loaded(read(path, required=required), path=path, root=root, hostname=hostname, overrides=overrides)


def loaded(content: bytes | None, *, path: Path, root: Path | None, hostname: str, overrides: Sequence[str] = ()) -> Config:
    """As `load`, of a file that has this content, or is not there."""
    settings: dict[str, ConfiguredValue] = {}
    whole = Report(str(path))
    reports = [whole]
    for found, report in (read_file(content or b"", file=str(path)), *map(read_override, overrides)):
        settings |= found
        reports.append(report)
    raise_all(reports)
    config = _built(settings, root=root)
    if not config.cell:
        config = replace(config, cell=_named_after(hostname, whole))
    _check_together(config, settings, whole)
    raise_all(reports)
    file = ConfigFile(path, None if content is None else digest_of(content))
    origins = {name: each.origin for name, each in settings.items()}
    if root is not None:
        origins |= {name: f"{origins.get(name, DEFAULT)}, below {root} of --root or CELLNET_ROOT" for name in PATHS}
    return replace(config, file=file, origins=origins)


def _named_after(hostname: str, whole: Report) -> str:
    try:
        return texts.cell_name(hostname.lower())
    except InvalidInput:
        whole.add(0, 0, f"the host's name '{hostname}' cannot name a cell", hint="set `cell:` to a DNS name")
        return hostname


def _built(settings: Mapping[str, ConfiguredValue], *, root: Path | None) -> Config:
    """The default of every key, replaced where it is set; paths follow `state`, `run` and the root."""
    paths = {name.removeprefix("paths."): each for name, each in settings.items() if name.startswith("paths.")}
    config = Config(cell="", paths=derived({name: each.value for name, each in paths.items() if isinstance(each.value, Path)}))
    for name, each in settings.items():
        section, _, key = name.rpartition(".")
        if section != "paths":
            config = _with(config, key, value=each.value, section=section)
    store = None if config.store is None else config.store.below(root)
    metrics, paths_here = config.metrics.below(root), all_below(root, config.paths)
    return replace(config, policies=below(root, config.policies), paths=paths_here, store=store, metrics=metrics)


def _with(config: Config, key: str, *, value: object, section: str) -> Config:
    """The config with one key set; its reader has made sure of the type, which the type checker cannot see."""
    if section:
        key, value = section, replace(getattr(config, section), **{key: value})
    return replace(config, **{key: value})  # type: ignore[arg-type]


def _check_together(config: Config, settings: Mapping[str, ConfiguredValue], whole: Report) -> None:
    """What no key shows alone."""
    overlay = config.overlay
    if overlay.cell_prefix <= overlay.network.prefixlen:
        hint = f"a cell's part must be smaller than {overlay.network}, e.g. {overlay.network.prefixlen + 8}"
        _blame(settings, whole, "overlay.cell_prefix", "overlay.network", what="cell_prefix leaves no cells", hint=hint)
    address = config.underlay.address
    if address is not None and address in overlay.network:
        hint = "choose an overlay network that nothing else uses"
        _blame(settings, whole, "underlay.address", what=f"{address} lies inside the overlay {overlay.network}", hint=hint)
    if config.dns.address in overlay.network or config.dns.address in (GATEWAY, address):
        what = f"{config.dns.address} cannot be the resolver's address: it is in the overlay, or has another use"
        _blame(settings, whole, "dns.address", "overlay.network", what=what, hint="one that nothing else has, e.g. 169.254.0.2")
    for domain in config.dns.route_domains:
        if domain == config.dns.domain or domain.endswith(f".{config.dns.domain}"):
            what = f"no route can lie below {domain}: in {config.dns.domain} only the apps' own names are"
            _blame(settings, whole, "dns.route_domains", "dns.domain", what=what, hint="e.g. route_domains: [apps.internal]")
    _check_names(config, settings)
    if config.tls.port in (OUTBOUND_PORT, INBOUND_PORT):
        what = f"port {config.tls.port} is where tunnels between containers begin or end"
        _blame(settings, whole, "tls.port", what=what, hint=f"choose another than {OUTBOUND_PORT} and {INBOUND_PORT}")
    if lacking := config.metrics.lacks():
        _blame(settings, whole, "metrics.listen", what=lacking, hint="see docs/monitor.md")
    for socket in config.paths.sockets:
        if len(os.fsencode(socket)) > SOCKET_LIMIT:
            what = f"the path of a socket has more than {SOCKET_LIMIT} bytes: {socket}"
            _blame(settings, whole, "paths.run", what=what, hint="use a shorter --root, or set paths.run")


def _check_names(config: Config, settings: Mapping[str, ConfiguredValue]) -> None:
    """The default template is in no other's way, so that what is wrong was written."""
    written, dns = settings.get("dns.names"), config.dns
    if written is None or not isinstance(written.node, Listing):
        return
    for each in template_conflicts(dns.names, domain=dns.domain, route_domains=dns.route_domains):
        written.report.wrong(written.node.items[each.place], each.what, hint=each.hint)


def _blame(settings: Mapping[str, ConfiguredValue], whole: Report, *names: str, what: str, hint: str) -> None:
    """Report a mistake where the first of these keys is set, else for the file as a whole."""
    for name in names:
        if name in settings:
            settings[name].report.wrong(settings[name].node, what, hint=hint)
            return
    whole.add(0, 0, what, hint=hint)
