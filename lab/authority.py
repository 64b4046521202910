"""One root for all cells of a lab: made beside their segment, it signs each cell's certificate before the cell starts."""

from datetime import UTC, datetime
from pathlib import Path

from agent.client.location import Place
from agent.errors import HostRefused
from lab.cell import Cell


def vouch_for(cells: tuple[Cell, ...], *, folder: Path) -> None:
    """Make a root in `folder`, and what each cell needs where its configuration says. Raises HostRefused."""
    from ca.disk import init_root  # `cellnet --help` comes by here, and cryptography takes longer to load than all the rest
    from ca.errors import CaRefused
    from ca.issuing import issue

    now = datetime.now(UTC)
    configs = [Place(root=each.root, config=None).load() for each in cells]
    try:
        init_root(folder, trust_domain=configs[0].trust_domain, now=now)
        for config in configs:
            config.paths.ca.parent.mkdir(parents=True, exist_ok=True)
            issue(folder, cell=config.cell, out=config.paths.ca, now=now)
    except CaRefused as error:
        raise HostRefused(error.what, hint=error.hint) from error
