"""What a running agent says of the cell, or why none runs."""

from dataclasses import dataclass
from importlib.metadata import version

from agent import last_start
from agent.client.answer import Fields
from agent.client.connection import Client
from agent.config.config import Config
from agent.doctor.checks import Finding
from agent.errors import RAISED
from agent.model.status import AREAS, Area, Problem

NONE = "no agent runs here"


@dataclass(frozen=True, slots=True)
class AgentView:
    """`status` is that of a running agent, None without one."""

    status: Fields | None

    @classmethod
    def of(cls, client: Client) -> "AgentView":
        """Ask it, once."""
        try:
            return cls(client.get("/v1/status"))
        except RAISED:
            return cls(None)

    @property
    def pid(self) -> int | None:
        """The agent's process."""
        return None if self.status is None else int(self.status.at("cell").text("pid"))


def agent(view: AgentView, config: Config) -> Finding:
    """Its own problems, a version that is not the installed one, and what its last start failed at."""
    if view.status is None:
        failed = last_start.read(config.paths.control_socket.parent)
        if failed is None:
            return Finding(NONE)
        return Finding(NONE, (Problem("agent", f"the agent's last start came to nothing: {failed.what}", failed.hint),))
    running = view.status.at("cell").text("version")
    problems = [_problem(each) for each in view.status.at("problems").each()]
    if running != version("cellnet"):
        what = f"version {running} runs, and {version('cellnet')} is installed"
        problems.insert(0, Problem("agent", what, "systemctl restart cellnet-agent.service: no connection ends by it"))
    return Finding(f"version {running}, process {view.pid}", tuple(problems))


def _problem(found: Fields) -> Problem:
    area = found.text("area")
    known: Area = "agent"
    for each in AREAS:
        known = each if each == area else known
    return Problem(known, found.text("what"), found.text("hint"))
