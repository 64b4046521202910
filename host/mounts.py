"""What is mounted in this process's mount namespace."""

from pathlib import Path


def below(root: Path) -> tuple[Path, ...]:
    """Mount points below `root`, the last mounted first."""
    found = [_unescaped(line.split()[4]) for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return tuple(Path(each) for each in reversed(found) if each.startswith(f"{root}/"))


def _unescaped(text: str) -> str:
    """The kernel writes space, tab, newline and backslash in octal."""
    for character in " \t\n\\":
        text = text.replace(f"\\{ord(character):03o}", character)
    return text
