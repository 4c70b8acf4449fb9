"""The README and the manual: links, commands, options, scripts and Python that they name exist, and Python runs."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer

from m3video.cli.app import app
from m3video.planning.plan_file import load_plan
from tests.paths import ROOT, SAMPLE

README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
MOST_WORDS = 1200
MOST_COLUMNS = 120

pages = pytest.mark.parametrize(
    "page", PAGES, ids=lambda page: page.name if page.parent == ROOT else f"docs/{page.name}"
)

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_SPAN = re.compile(r"`([^`\n]+)`")


def blocks(text: str, language: str) -> list[str]:
    """Return the fenced blocks of a language, as written."""
    return [body for name, body in _FENCE.findall(text) if name == language]


def prose(text: str) -> str:
    """Return a page without its fenced blocks; lines keep their order."""
    return _FENCE.sub("", text)


def anchors(text: str) -> set[str]:
    """Return the anchors that a code host makes of a page's headings."""
    headings = re.findall(r"^#+ +(.+)$", prose(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(page: Path, text: str) -> list[str]:
    """Return the relative links of a page that lead to no file, or to no heading of one."""
    found = []
    for link in _LINK.findall(prose(text)):
        if link.startswith(("https://", "http://")):
            continue
        name, _, anchor = link.partition("#")
        target = page if not name else page.parent / name
        if not target.exists() or (anchor and anchor not in anchors(target.read_text(encoding="utf-8"))):
            found.append(link)
    return found


def commands(text: str) -> Iterator[list[str]]:
    """Yield the words of every command of a page: of its shell blocks, and of code within lines."""
    lines = [line for block in blocks(text, "bash") for line in block.replace("\\\n", " ").splitlines()]
    lines += [span for span in _SPAN.findall(prose(text)) if span.startswith(("m3video ", "python ", "bash "))]
    for line in lines:
        for part in re.split(r" \| | && |; ", line):
            words = shlex.split(part, comments=True)
            if words:
                yield words


@cache
def command_tree() -> Any:
    """Return the command line as click sees it."""
    return typer.main.get_command(app)


def wrong_command(words: list[str]) -> str | None:
    """Return what is wrong with the words of a command: no such verb, option or script. None where all is well."""
    if words[0] in ("python", "bash"):
        script = next((word for word in words[1:] if not word.startswith("-")), "")
        if script.startswith("scripts/") and not (ROOT / script).is_file():
            return f"no script {script}"
        return None
    if words[0] != "m3video":
        return None
    node, rest = command_tree(), words[1:]
    while rest and getattr(node, "commands", None) is not None and not rest[0].startswith("-"):
        if not re.fullmatch(r"[a-z]+", rest[0]):
            return None  # a placeholder such as COMMAND
        if rest[0] not in node.commands:
            return f"no command {' '.join(words)}"
        node, rest = node.commands[rest[0]], rest[1:]
    known = {name for parameter in node.params for name in (*parameter.opts, *parameter.secondary_opts)}
    known |= {"--help", "-h"}
    for word in rest:
        option = word.partition("=")[0]
        if re.fullmatch(r"--?[a-z][a-z-]*", option) and option not in known:
            return f"no option {option} in {' '.join(words)}"
    return None


def all_options(node: Any) -> set[str]:
    """Return the options of a command and of all below it."""
    found = {name for parameter in node.params for name in (*parameter.opts, *parameter.secondary_opts)}
    return found.union(*(all_options(child) for child in getattr(node, "commands", {}).values()))


def test_the_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").split()) <= MOST_WORDS


@pages
def test_lines_of_prose_fit_a_terminal(page: Path) -> None:
    lines = page.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if len(line) > MOST_COLUMNS and not line.startswith("|")] == []


@pages
def test_links_lead_somewhere(page: Path) -> None:
    assert broken_links(page, page.read_text(encoding="utf-8")) == []


def test_a_broken_link_is_found() -> None:
    text = "[a](README.md) [b](none.md) [c](README.md#install) [d](README.md#nowhere) [e](https://example.org/x)"
    assert broken_links(README, text) == ["none.md", "README.md#nowhere"]


@pages
def test_commands_exist(page: Path) -> None:
    wrong = [wrong_command(words) for words in commands(page.read_text(encoding="utf-8"))]
    assert [problem for problem in wrong if problem] == []


@pages
def test_options_within_lines_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = {span.split()[0].partition("=")[0] for span in _SPAN.findall(prose(text)) if span.startswith("--")}
    of_scripts = {"--write", "--tiny", "--base"}
    assert named - all_options(command_tree()) - of_scripts == set()


def test_a_wrong_command_is_found() -> None:
    text = "```bash\nm3video plan a.mp4 --budget 9 # why\nm3video play a.mp4\nm3video ask a.mp4 'b' --no-such 3\n```\n"
    wrong = [wrong_command(words) for words in commands(text + "`python scripts/none.py` `m3video cache ls --deep`")]
    assert [problem for problem in wrong if problem] == [
        "no command m3video play a.mp4",
        "no option --no-such in m3video ask a.mp4 b --no-such 3",
        "no script scripts/none.py",
        "no option --deep in m3video cache ls --deep",
    ]


@pages
def test_files_that_are_named_exist(page: Path) -> None:
    spans = _SPAN.findall(prose(page.read_text(encoding="utf-8")))
    named = {span for span in spans if re.fullmatch(r"(m3video|tests|scripts|configs|docs)/[\w./-]+", span)}
    named = {name for name in named if "NAME" not in name}
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


@pages
def test_python_compiles(page: Path) -> None:
    for block in blocks(page.read_text(encoding="utf-8"), "python"):
        compile(block, f"<{page.name}>", "exec")


def test_python_of_the_readme_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = blocks(README.read_text(encoding="utf-8"), "python")
    monkeypatch.chdir(ROOT)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(block, "<README>", "exec"), {"__name__": "readme"})
    plan, answers, session = printed.getvalue().splitlines()
    assert plan.startswith("717 [(0, 144), ")
    assert answers.startswith("green (CitedRange(")
    assert session == "green night"


def test_python_of_the_manual_runs_in_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "m3video" / "assets").mkdir(parents=True)
    (tmp_path / "m3video" / "assets" / SAMPLE.name).symlink_to(SAMPLE)
    monkeypatch.chdir(tmp_path)
    printed = io.StringIO()
    for block in blocks((ROOT / "docs" / "python-api.md").read_text(encoding="utf-8"), "python"):
        with contextlib.redirect_stdout(printed):
            exec(compile(block, "<manual>", "exec"), {"__name__": "manual"})
    assert load_plan("plan.json").budget == 180
    assert "no-such-file.mp4" in printed.getvalue()


def test_the_picture_of_a_plan_is_small() -> None:
    assert (ROOT / "docs" / "images" / "plan.png").stat().st_size < 300_000
