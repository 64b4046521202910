"""What only the operator or another cell may write again: it stays in force as it was known here. Pure."""

from collections.abc import Iterator

from agent.model.status import Problem
from agent.store.etcd.client import Reading, Value
from agent.store.etcd.disk_copy import HeldRecords, RecordsInForce
from agent.store.etcd.keys import Keys, forwards
from agent.store.etcd.loss.generation import same_content
from agent.wording import listed


def records_to_hold(in_force: RecordsInForce, now: Reading, *, after: int, keys: Keys, cell: str) -> dict[str, Value | None]:
    """What stays as it was in force though etcd has it otherwise. None: a policy that older data brings back stays out."""
    held: dict[str, Value | None] = {}
    for key, old in in_force.items():
        new = now.values.get(key)
        if not same_content(old, new) and (new is None or new.revision <= after) and not _is_written_anew(key, keys, cell):
            held[key] = old
    for key, new in now.values.items():
        if key.startswith(keys.policies) and key not in in_force and new.revision <= after and key != keys.accepted:
            held[key] = None
    return held


def _is_written_anew(key: str, keys: Keys, cell: str) -> bool:
    """Whether it has been restored, or is written by this cell anyway."""
    return key == keys.accepted or key.startswith((keys.claims, keys.tags, keys.cell(cell), keys.endpoints_of(cell)))


def held_policies(held: HeldRecords, keys: Keys) -> list[str]:
    """By name."""
    return sorted(key.removeprefix(keys.policies) for key in held.values if key.startswith(keys.policies))


def held_routes(held: HeldRecords, keys: Keys) -> list[str]:
    """Hosts, sorted."""
    return sorted(forwards(key.removeprefix(keys.routes)) for key in held.values if key.startswith(keys.routes))


def held_problems(held: HeldRecords, keys: Keys) -> Iterator[Problem]:
    """What is held, and what to do about it."""
    names = held_policies(held, keys)
    if names:
        yield Problem(
            "store",
            f"etcd has lost data: {len(names)} policies are held as they were known here: {listed(names)}",
            "apply them again (`cellnet policy apply`), or give up what was lost: `cellnet policy accept-loss`",
        )
    hosts = held_routes(held, keys)
    if hosts:
        yield Problem(
            "store",
            f"etcd has lost data: {len(hosts)} routes are held as the operator has mapped or freed them: {listed(hosts)}",
            "map or unmap them again (`cellnet route`), or give up what was lost: `cellnet policy accept-loss`",
        )
    cells = sorted({key.removeprefix(keys.cells).partition("/")[0] for key in held.values if key.startswith(keys.cells)})
    if cells:
        yield Problem(
            "store",
            f"etcd has lost data, and is yet to hear of {len(cells)} cells, which are kept as they were known: {listed(cells)}",
            "start the agents of those that still are, `cellnet cell remove` those that are not",
        )
