"""Instances that have names at once: they have no port to be served first."""

from concurrent.futures import ThreadPoolExecutor

from agent.client.connection import RequestBody, attachment_address
from bench.stages.scene import AT_ONCE, Scene

APPS_OF = 4  # instances of one app


def fill_with_names(scene: Scene, count: int, *, first: int = 0) -> None:
    """Instances `crowd-FIRST` to `crowd-(COUNT-1)`, of apps of four each."""

    def attach(number: int) -> None:
        name = f"crowd-{number}"
        body: RequestBody = {"app": f"crowd/there/app-{number // APPS_OF}", "netns": str(scene.namespace(name))}
        scene.client.ask("PUT", attachment_address(name), body)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(attach, range(first, count)))
    scene.sync()
