"""Every page's code runs, block by block in the order it stands there, in one session.

Python blocks share their names; one whose first line is `# name.py` is written to that file instead. Of bash
blocks the lines that begin with `polarity` run. Blocks marked otherwise (```text, ```console) are shown only.
"""

import contextlib
import io
import re
import shlex
import shutil
import warnings
from pathlib import Path

import polarity_sampling as ps
import pytest
from polarity_sampling.cli import app
from typer.testing import CliRunner

ROOT = Path(__file__).resolve().parents[2]
# This page is about C++ files, and what it shows is part of a build.
OTHERWISE_TESTED = {"adding-an-op.md"}
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_BLOCK = re.compile(r"^```(python|bash)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="session")
def digits_bank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bank that several pages build with this same call; there, it is then found finished."""
    path = tmp_path_factory.mktemp("docs") / "digits.bank"
    ps.Bank.build(ps.models.load("digits"), n=1024, top_k=None, path=path)
    return path


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.name not in OTHERWISE_TESTED], ids=lambda page: page.name
)
def test_the_code_on_a_page_runs(
    page: Path, digits_bank: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(digits_bank, "digits.bank")
    monkeypatch.syspath_prepend(str(tmp_path))
    names: dict[str, object] = {"__name__": page.stem}
    text = page.read_text()
    for block in _BLOCK.finditer(text):
        language, code = block.groups()
        line = text.count("\n", 0, block.start()) + 1
        if language == "bash":
            run_shell(code, f"{page.name}:{line}")
        elif first := re.match(r"# (\w+\.py)\n", code):
            (tmp_path / first[1]).write_text(code)
        else:
            # Blank lines in front: a traceback then names the line of the page.
            with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
                warnings.simplefilter("ignore", ps.PolarityWarning)
                exec(compile("\n" * line + code, str(page), "exec"), names)


def run_shell(code: str, where: str) -> None:
    for command in code.splitlines():
        words = shlex.split(command, comments=True)
        if words[:1] == ["polarity"]:
            result = CliRunner().invoke(app, words[1:])
            assert result.exit_code == 0, f"{where}: {command}\n{result.output}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
