"""What the demo shows: each step with what was run, what came back, how long it took, and whether that was expected."""

import shlex
import time

import click

from lab.cell import Cell

TIME = 8
INDENT = " " * (TIME + 2)


class Screen:
    """Prints as it goes; `wrong` counts the unexpected. Colour only on a terminal (click sees to that)."""

    def __init__(self) -> None:
        self.wrong = 0
        self._number = 0
        self._started = time.monotonic()

    def say(self, text: str = "") -> None:
        """A line of prose."""
        click.echo(text)

    def step(self, title: str) -> None:
        """Begin the next step."""
        self._number += 1
        click.echo(f"\n{click.style(f'{self._number}. {title}', bold=True)}")

    def ran(self, command: str, *, seconds: float | None = None, at: Cell | None = None) -> None:
        """A command line as a user would type it, and how long it took; the cell is named where there are several."""
        took = "" if seconds is None else duration(seconds)
        prompt = f"cell-{at.number} $" if at is not None and at.segment else "$"
        click.echo(f"{click.style(f'{took:>{TIME}}', dim=True)}  {prompt} {command}")

    def came(self, text: str) -> None:
        """What came back."""
        for line in text.rstrip().splitlines():
            click.echo(f"{INDENT}  {line}".rstrip())

    def cellnet(self, cell: Cell, *words: str, message: str = "") -> None:
        """Run `cellnet WORDS` in a cell and show it; a failure is unexpected. `message` is for a success."""
        done = cell.cellnet(*words)
        self.ran(f"cellnet {shlex.join(words)}", seconds=done.seconds, at=cell)
        self.came(done.out + done.err)
        if done.code != 0:
            self.unexpected(f"exit code {done.code}", hint="see 'cellnet status'")
        elif message:
            self.expected(message)

    def expect(self, good: bool, *, message: str, otherwise: str, hint: str) -> bool:
        """Judge what came back: print `message` if it is as expected, else `otherwise` with a hint."""
        if good:
            self.expected(message)
        else:
            self.unexpected(otherwise, hint=hint)
        return good

    def expected(self, message: str) -> None:
        """An answer is as it should be."""
        click.echo(f"{INDENT}{click.style('ok:', fg='green')} {message}")

    def unexpected(self, message: str, *, hint: str) -> None:
        """An answer is not."""
        self.wrong += 1
        click.echo(f"{INDENT}{click.style('UNEXPECTED:', fg='red', bold=True)} {message}")
        click.echo(f"{INDENT}hint: {hint}")

    def end(self) -> None:
        """The last line."""
        took = duration(time.monotonic() - self._started)
        if self.wrong:
            click.echo(click.style(f"\n{self.wrong} of the answers were not as expected ({took}).", fg="red", bold=True))
        else:
            click.echo(click.style(f"\nAll {self._number} steps gave the expected answer, in {took}.", fg="green", bold=True))


def duration(seconds: float) -> str:
    """`340 ms`, `1.2 s`."""
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms" if seconds >= 0.01 else f"{seconds * 1000:.1f} ms"
