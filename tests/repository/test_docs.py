"""The documents say what is there: links lead somewhere, files that they name exist, commands that they show are ours."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.config.paths import derived
from tests.testlib.documents import BLOCK

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`([^`\n]+)`")
FOLDERS = ("agent", "bench", "ca", "dataplane", "docs", "lab", "setup", "tests")
SHELL_PROMPT = "$ "


def names(documents: list[Path]) -> list[str]:
    """Test ids."""
    return [str(each.relative_to(ROOT)) for each in documents]


def prose(document: Path) -> str:
    """A document without its code blocks."""
    return FENCE.sub("", document.read_text())


def files_named(document: Path) -> Iterator[str]:
    """What stands in backticks and begins with one of our folders."""
    for word in CODE.findall(prose(document)):
        if word.startswith(tuple(f"{folder}/" for folder in FOLDERS)) and " " not in word:
            yield word


def anchors(document: Path) -> set[str]:
    """Its headings as links name them."""
    headings = re.findall(r"^#+ (.+)$", prose(document), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=names(DOCUMENTS))
def test_links_lead_somewhere(document: Path) -> None:
    broken = []
    for link in LINK.findall(prose(document)):
        if link.startswith(("https://", "http://", "mailto:")):
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path) if path else document
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=names(DOCUMENTS))
def test_files_that_a_document_names_exist(document: Path) -> None:
    missing = [name for name in files_named(document) if not (ROOT / name).exists() and name != "bench/results/"]
    assert missing == []


def test_the_packets_story_names_most_of_what_packets_policies_and_certificates_meet() -> None:
    told = set(files_named(ROOT / "docs" / "packet.md"))
    assert len(told) > 30
    for needed in ("agent/policy/language/language.py", "agent/loop/desired.py", "dataplane/firewall/filter.py", "ca/leaf.py"):
        assert needed in told


def test_the_architecture_answers_what_newcomers_ask_with_paths_that_exist() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    page = text[text.index("## Where is what") : text.index("## Who owns what")]
    asked = [line.split("|")[1:3] for line in page.splitlines() if line.startswith("| ") and not line.startswith("| question ")]
    assert len(asked) >= 8
    for question, answer in asked:
        paths = [name for name in re.findall(r"`([a-z_0-9/]+\.py)`", answer) if "/" in name]
        assert paths, f"no path answers: {question}"
        assert [name for name in paths if not (ROOT / name).is_file()] == []


def test_the_architecture_names_every_folder() -> None:
    told = set(files_named(ROOT / "docs" / "architecture.md"))
    there = {f"{path.name}/" for path in ROOT.iterdir() if path.name in FOLDERS and any(path.rglob("*.py"))}
    assert there <= told


def test_the_architecture_has_the_layers_that_are_held() -> None:
    table = (ROOT / "docs" / "architecture.md").read_text().partition("| layer | does |")[2].partition("\n\n")[0]
    told = [set(re.findall(r"`(\w+)`", line.split("|")[1])) for line in table.splitlines()[2:]]
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = [each["layers"] for each in contracts if each["type"] == "layers"]
    assert told == [set(layer.split(" | ")) for layer in layers if layer != "__main__"]


def test_the_architecture_has_whatever_a_cell_keeps_on_disk() -> None:
    paths = derived({})
    kept = {path for name in dir(paths) if name[0] != "_" and isinstance(path := getattr(paths, name), Path)}
    told = {Path(word) for word in CODE.findall((ROOT / "docs" / "architecture.md").read_text()) if word.startswith("/")}
    around = {folder for path in told for folder in path.parents}
    untold = {path for path in kept if not told.intersection({path, *path.parents}) and path not in around}
    assert untold == {paths.host_resolv_conf}


def test_every_document_of_docs_is_listed_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    for document in (ROOT / "docs").glob("*.md"):
        assert f"(docs/{document.name})" in readme


def test_the_changelog_opens_with_what_is_unreleased() -> None:
    sections = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert sections[0] == "Unreleased"


def test_decisions_are_numbered_without_a_gap() -> None:
    found = sorted((ROOT / "docs" / "adr").glob("*.md"))
    assert [each.name[:4] for each in found] == [f"{number:04}" for number in range(1, len(found) + 1)]
    for number, each in enumerate(found, start=1):
        text = each.read_text()
        assert text.startswith(f"# {number}. ")
        assert all(f"**{part}.**" in text for part in ("Context", "Choice", "Reasons", "Price"))


@pytest.mark.parametrize("document", DOCUMENTS, ids=names(DOCUMENTS))
def test_shell_sessions_have_prompts(document: Path) -> None:
    for language, block in FENCE.findall(document.read_text()):
        assert language, "a code block says what it is"
        if language == "console":
            assert block.startswith(SHELL_PROMPT)


@pytest.mark.parametrize(
    "document",
    [
        "docs/apps.md",
        "docs/from-cloud-foundry.md",
        "docs/names.md",
        "docs/store.md",
        "docs/cells.md",
        "docs/engines.md",
        "docs/backup.md",
        "docs/operate.md",
    ],
)
def test_every_command_that_a_document_shows_is_run_by_the_test_that_it_names(document: str) -> None:
    text = (ROOT / document).read_text()
    shown, run = text.count("```console\n"), [each["test"] for each in BLOCK.finditer(text)]
    assert len(run) == shown > 0
    for test in set(run):
        assert document in (ROOT / test).read_text() + (ROOT / "tests/testlib/stores/secured_etcd.py").read_text(), test
        assert re.search(r"blocks|rights\(|add_operator\(", (ROOT / test).read_text()), test


@pytest.mark.parametrize("document", DOCUMENTS, ids=names(DOCUMENTS))
def test_make_targets_that_a_document_names_exist(document: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    text = document.read_text()
    named = set(re.findall(r"`(?:sudo )?make ([a-z]+)", text)) | set(
        re.findall(r"^\$ (?:sudo )?make ([a-z]+)", text, re.MULTILINE)
    )
    assert named <= targets
