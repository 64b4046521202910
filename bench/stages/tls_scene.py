"""What the scripts about TLS take of a cell: a container's certificate, and its Envoy on one processor."""

import os
from pathlib import Path

from agent.client.answer import Fields
from bench.stages.proxies import Identity
from bench.stages.scene import Container, Scene
from lab.cell import Part


def identity_of(scene: Scene, container: Container) -> Identity:
    """The files that the app of a container has."""
    found: Fields = scene.client.get(f"/v1/attachments/{container.name}").at("environment")
    return Identity(*(Path(found.text(f"CF_{name}")) for name in ("INSTANCE_CERT", "INSTANCE_KEY", "INSTANCE_CA")))


def pinned_envoy(scene: Scene, processor: int) -> int:
    """The pid of the cell's Envoy, all of whose threads run on this processor from now on."""
    envoy = scene.cell.part(Part.ENVOY)
    assert envoy is not None
    for task in Path(f"/proc/{envoy.pid}/task").iterdir():
        os.sched_setaffinity(int(task.name), {processor})
    return envoy.pid
