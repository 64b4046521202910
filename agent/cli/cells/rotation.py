"""`ca rotate`: the root's owner goes from step to step, again and again, and waits a while at each for the cells.

Where this cell has the present root's key, the new root is made and put in place here (ca/replacement.py); the agent is given
nothing but its certificate. Where a step waits for a cell's operator, the hint says what to do.
"""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agent.cli.completion import cell_names
from agent.cli.credentials import credentials_field, credentials_option
from agent.cli.errors import FAILED
from agent.cli.output import json_option, print_json
from agent.cli.passphrase import ask_passphrase, passphrase_option, refusals_reported
from agent.client.answer import Fields
from agent.client.location import Location, need_root
from agent.errors import HostRefused, InvalidInput, Unavailable

if TYPE_CHECKING:
    from agent.config.config import Config

ADDRESS = "/v1/ca/rotation"
POLL = 0.25  # seconds
SOON = 3.0  # seconds: a cell that is ready by then is not worth a line
STEPS = {"trust": "1 of 3: all cells trust the root that comes", "sign": "2 of 3: all cells sign with it",
         "end": "3 of 3: the roots that go are trusted no more", "done": "done"}  # fmt: skip
ORDER = tuple(STEPS)


@click.command()
@click.argument("file", required=False, type=click.Path(path_type=Path, dir_okay=False))
@click.option("--status", "only_status", is_flag=True, help="Change nothing: show which step it is at, and what is awaited.")
@click.option(
    "--without", multiple=True, metavar="CELL", shell_complete=cell_names, help="Do not wait for this cell. Repeatable."
)
@click.option("--until", type=click.Choice(["trust", "sign"]), help="Stop after this step. [default: go on to the end]")
@click.option(
    "--wait", type=click.FloatRange(0, 3600), default=45, show_default=True, metavar="S", help="Wait so long for the cells."
)
@passphrase_option
@credentials_option
@json_option
@click.pass_obj
def rotate(
    location: Location,
    file: Path | None,
    only_status: bool,
    without: tuple[str, ...],
    until: str | None,
    wait: float,
    passphrase_file: Path | None,
    credentials: Path | None,
    as_json: bool,
) -> int:
    """Put another root in place of the one that all cells have, without a moment in which a certificate is not trusted.

    FILE is the certificate of the root that comes. Without it, a rotation that is under way goes on; else, where this cell has
    the root's key, a new root is made here. Run it again until its exit code is 0: it goes on where it was, on any cell.
    """
    if only_status:
        found = location.client().get(ADDRESS)
    else:
        need_root("cellnet ca rotate")
        run = _Run(location, without, until, passphrase_file=passphrase_file, credentials=credentials, quiet=as_json)
        found = run.to_the_end(file, seconds=wait)
    over = found.at("step").missing or ORDER.index(found.text("step")) > ORDER.index(until or "end")
    if as_json:
        print_json(found)
    else:
        click.echo("\n".join(shown(found) if only_status else _conclusion(found, over=over)))
    return 0 if over else FAILED


class _Run:
    """One call of the command."""

    def __init__(
        self,
        location: Location,
        without: tuple[str, ...],
        until: str | None,
        *,
        passphrase_file: Path | None,
        credentials: Path | None,
        quiet: bool,
    ) -> None:
        self._client = location.client()
        self._config: Config = location.load()
        self._without = without
        self._until = until
        self._credentials = credentials_field(credentials)
        self._passphrase_file = passphrase_file
        self._quiet = quiet
        self._passphrase: bytes | None = None
        self._told = set[str]()
        self._step, self._since = "", 0.0

    def to_the_end(self, file: Path | None, *, seconds: float) -> Fields:
        """The last answer."""
        deadline, root = time.monotonic() + seconds, self._root(file)
        while True:
            found = self._go_on(root, deadline=deadline)
            self._tell(found)
            if ORDER.index(found.text("step")) > ORDER.index(self._until or "end"):
                break
            root = None  # from here on the store knows it
            if found.text("step") == "sign" and self._adopt(found.text("root")):
                continue
            if time.monotonic() > deadline:
                self._tell(found, at_last=True)
                break
            time.sleep(POLL)
        self._tidy(found)
        return found

    def _go_on(self, root: str | None, *, deadline: float) -> Fields:
        """The answer. What is away for a moment is asked again: it takes no step twice, even if only the answer was lost."""
        wanted = {"root": root, "without": self._without, "keep_former": self._until is not None, **self._credentials}
        while True:
            try:
                return self._client.post(ADDRESS, wanted)
            except Unavailable as error:
                if time.monotonic() >= deadline:
                    raise
                self._say(f"  asked again: {error.what}")
            time.sleep(POLL)

    def _root(self, file: Path | None) -> str | None:
        """The certificate to begin with; None where a rotation is under way. Raises HostRefused where there can be none.

        Raises Unavailable where no agent answers: there is nothing to wait for.
        """
        from ca.replacement import prepare

        given, there = None if file is None else certificate_in(file), self._client.get(ADDRESS)
        if given is not None or not there.at("step").missing:
            return given
        config, folder = self._config, self._config.paths.ca
        with refusals_reported():
            if not (folder / "root.key").exists():
                raise _no_key(folder)
            self._ask()
            made = prepare(folder, trust_domain=config.trust_domain, now=datetime.now(UTC), passphrase=self._passphrase)
        return made.decode()

    def _ask(self) -> None:
        from ca.disk import has_locked_root
        from ca.replacement import is_locked

        folder = self._config.paths.ca
        if self._passphrase is None:
            locked = has_locked_root(folder) or is_locked(folder)
            self._passphrase = ask_passphrase(folder, self._passphrase_file, needed=locked)

    def _adopt(self, root: str) -> bool:
        """Put a root that waits here in place, if it is the one that comes."""
        from ca.replacement import adopt

        config, folder = self._config, self._config.paths.ca
        with refusals_reported():
            if _waiting(folder) != root:
                return False
            self._ask()
            now, domain = datetime.now(UTC), config.trust_domain
            adopt(folder, cell=config.cell, trust_domain=domain, now=now, passphrase=self._passphrase)
        return True

    def _tidy(self, found: Fields) -> None:
        """A root that waits here in vain signs nothing any more."""
        from ca.replacement import discard

        with refusals_reported():
            if found.text("step") == "done" and _waiting(self._config.paths.ca) is not None:
                discard(self._config.paths.ca)

    def _tell(self, found: Fields, *, at_last: bool = False) -> None:
        """What was not told yet: the step at once, and what it waits for where that takes a while."""
        step, now = found.text("step"), time.monotonic()
        if step != self._step:
            self._step, self._since = step, now
        if ORDER.index(step) <= ORDER.index(self._until or "end"):
            self._say(*_head(found), *(_awaited(found) if at_last or now > self._since + SOON else ()))

    def _say(self, *lines: str) -> None:
        """Each once."""
        for line in () if self._quiet else lines:
            if line not in self._told:
                self._told.add(line)
                click.echo(line)


def _waiting(folder: Path) -> str | None:
    """The fingerprint of the root that waits in a folder."""
    from ca.pem import certificates, fingerprint
    from ca.replacement import waiting_root

    found = waiting_root(folder)
    return None if found is None else fingerprint(certificates(found, where=str(folder))[0])


def _no_key(folder: Path) -> Exception:
    hint = "have the root's owner make another ('cellnet ca init --ca DIR'), and give its certificate: 'cellnet ca rotate FILE'"
    return HostRefused(
        f"no rotation of the root is under way, and {folder} has no root.key to make a new root beside", hint=hint
    )


def certificate_in(path: Path) -> str:
    """Raises InvalidInput for what must not be sent to all cells, before it is sent anywhere."""
    text = path.read_text(errors="replace")
    if "PRIVATE KEY" in text:
        raise InvalidInput(f"{path} holds a private key", hint="give the certificate alone: root.crt, never root.key")
    return text


def shown(found: Fields) -> Iterator[str]:
    """Where it is, in lines."""
    if found.at("step").missing:
        yield "no rotation of the root is under way"
        yield from _roots(found)
        return
    yield from _head(found)
    yield from _awaited(found)


def _head(found: Fields) -> Iterator[str]:
    yield f"comes  {_short(found.text('root'))}"
    yield from (f"goes   {_short(each)}" for each in found.texts("former"))
    yield f"step {STEPS[found.text('step')]}"


def _awaited(found: Fields) -> Iterator[str]:
    for each in found.at("awaited").each():
        yield f"  awaited: {each.text('cell')}: {each.text('why')}"
        yield f"    hint: {each.text('hint')}"
    for each in found.at("passed_over").each():
        yield f"  passed over: {each.text('cell')}: {each.text('why')}"
        yield f"    {each.text('hint')}"


def _roots(found: Fields) -> Iterator[str]:
    for each in found.at("cells").each():
        signs_with, trusts = (", ".join(map(_short, each.texts(name))) or "unknown roots" for name in ("signs_with", "trusts"))
        yield f"  {each.text('name')} signs with {signs_with}, trusts {trusts}"


def _conclusion(found: Fields, *, over: bool) -> Iterator[str]:
    if found.text("step") == "done":
        yield f"done: all cells sign with {_short(found.text('root'))}, and trust none that has gone"
        besides = [_short(each) for each in found.texts("published") if each != found.text("root")]
        if besides:
            yield f"still trusted besides: {', '.join(besides)}; 'cellnet ca publish FILE' would replace all of them"
    elif over:
        at = STEPS[found.text("step")]
        yield f"stopped as asked, before step {at}; the roots that go are trusted until 'cellnet ca rotate' is run again"
    else:
        yield "not done yet: run it again; 'cellnet ca rotate --status' shows where it is"


def _short(fingerprint: str) -> str:
    return f"sha256 {fingerprint[:16]}…"
