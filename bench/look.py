"""What a look at the kernel costs where nothing has changed since the last: processor time, that of tools included.

The agent looks every ten seconds, and whatever it changes meanwhile waits for what the look takes of a processor.
"""

import resource
from dataclasses import replace
from itertools import pairwise

from bench.stages.scene import Scene
from dataplane.firewall.backends import backends
from dataplane.kernel import Kernel
from dataplane.netlink.links import SETTINGS
from dataplane.tables import Tables

WHAT = "look at the kernel, unchanged -> processor time"


def measured(scene: Scene, *, backend: str, rounds: int) -> tuple[float, ...]:
    """Milliseconds of each look, by the dataplane's own code beside the agent's."""
    kernel = Kernel(backends.firewall(backends.Backend(backend)), namespace=scene.cell.netns)
    try:
        found = _read(kernel, Tables())
        settings = {name.format(link): "" for link in found.veths for name, *_ in SETTINGS}
        desired = replace(found, sysctls=settings)
        times = [_processor_time()]
        for _ in range(rounds):
            _read(kernel, desired)
            times.append(_processor_time())
    finally:
        kernel.close()
    return tuple((after - before) * 1000 for before, after in pairwise(times))


def _read(kernel: Kernel, desired: Tables) -> Tables:
    return kernel.read(desired, known=desired.interiors).result()


def _processor_time() -> float:
    used = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in used)
