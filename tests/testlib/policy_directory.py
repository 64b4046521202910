"""A policy directory with real files, looked at when a test says so, by the clock that a test gives."""

from pathlib import Path

from agent.policy.directory.files import PolicyFiles

GOOD = "policies: [{name: %s, from: a/b/c, to: a/b/d, tcp: 80}]\n"
BAD = "policies: [{name: bad, from: a/b/c, to: a/b/d, tcp: 0}]\n"


class PolicyDirectory:
    """A policy directory and the agent's state beside it."""

    def __init__(self, folder: Path) -> None:
        self.directory = folder / "policies.d"
        self.directory.mkdir(mode=0o755)
        self.copies = folder / "state" / "policies"
        self.files = self.start()

    def start(self) -> PolicyFiles:
        """The agent's part, as after a restart."""
        self.files = PolicyFiles(self.directory, last_good=self.copies)
        return self.files

    def write(self, name: str, text: str) -> Path:
        path = self.directory / name
        path.write_text(text)
        path.chmod(0o644)
        return path

    def save(self) -> bool:
        """Both halves of saving, with nothing in between."""
        copies = self.files.unsaved
        return self.files.note_saved(copies, self.files.save(copies))

    def names(self) -> list[str]:
        return [policy.name for policy in self.files.policies()]

    def messages(self) -> list[str]:
        return [f"{Path(each.file).name}: {each.message}" for each in self.files.problems()]
