"""docs/adding-an-op.md quotes the sources as they are."""

import re

from tests.packaging.conftest import ROOT

PAGE = (ROOT / "docs" / "adding-an-op.md").read_text()
QUOTED = re.compile(r"^`([^`\n]+)`\n\n```\w+\n(.*?)\n```$", re.MULTILINE | re.DOTALL)


def lines_of(text: str) -> str:
    """Without indentation and blank lines, which a formatter of the page changes."""
    return "\n".join(line.strip() for line in text.splitlines() if line.strip())


def test_every_excerpt_stands_in_its_file() -> None:
    quotes = QUOTED.findall(PAGE)
    assert len(quotes) == PAGE.count("\n```\n")
    changed = [name for name, text in quotes if lines_of(text) not in lines_of((ROOT / name).read_text())]
    assert changed == []


def test_every_file_it_names_exists() -> None:
    rows = [line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| `")]
    names = [name for row in rows for name in re.findall(r"`([^`]+)`", row)]
    assert len(names) >= 13
    assert [name for name in names if not (ROOT / name).is_file()] == []
