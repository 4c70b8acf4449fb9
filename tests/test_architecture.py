"""The house rules that a machine can check: how modules import each other, what they load, and how long they are."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import m3video
from tests.paths import ROOT

PACKAGE = Path(m3video.__file__).parent
LAYERS = (
    ("errors",),
    ("utils",),
    ("types",),
    ("config",),
    ("video", "planning", "model"),
    ("inference",),
    ("report",),
    ("distributed",),
    ("training",),
    ("evaluation",),
    ("cli",),
)
"""Each imports only what stands before it; those of one line do not import each other."""
EXCEPTIONS: dict[str, str] = {}
"""At most one: a package, and the one above it or beside it that it may import."""
HEAVY = ("torch", "transformers", "ray")
LIGHT = ("m3video.planning", "m3video.distributed", "m3video.config", "m3video.cli")
"""Packages and modules that load none of the heavy ones."""
MAX_FILE_LINES, MAX_FUNCTION_LINES, MAX_ENTRIES = 400, 80, 16


def modules() -> dict[str, Path]:
    """Every module of the program by its dotted name."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = ("m3video", *path.relative_to(PACKAGE).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imports(source: str) -> set[str]:
    """Absolute names of what a source text imports, in functions and under conditions too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import in line {node.lineno}"
            assert node.module is not None
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


IMPORTS = {name: imports(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}


def layer(package: str) -> int:
    """Number of a package's line in LAYERS."""
    found = [number for number, names in enumerate(LAYERS) if package in names]
    assert found, f"m3video.{package} has no layer: give it one here and in the README's picture"
    return found[0]


def violations(importer: str, imported: set[str]) -> list[str]:
    """Those imports of `importer`, a dotted module name, that point up or sideways."""
    parts = importer.split(".")
    if len(parts) == 1:  # m3video itself, of which everything may import the version
        return sorted(name for name in imported if name.startswith("m3video."))
    bad = []
    for name in sorted(imported):
        if not name.startswith("m3video.") or name == "m3video.__version__":
            continue
        target = name.split(".")[1]
        if target in (parts[1], EXCEPTIONS.get(parts[1])):
            continue
        if layer(target) >= layer(parts[1]):
            bad.append(f"{importer} imports {name}")
    return bad


def test_imports_point_downward() -> None:
    assert len(EXCEPTIONS) <= 1
    bad = [text for name in MODULES for text in violations(name, IMPORTS[name])]
    assert not bad, "\n".join(bad)


def test_the_layer_test_can_fail() -> None:
    for importer, imported in (
        ("m3video.video.reader", "m3video.planning.allocate"),
        ("m3video.types.plan", "m3video.video.reader"),
        ("m3video.report.plan_page", "m3video.cli.terminal"),
        ("m3video.training.train", "m3video.evaluation.run"),
        ("m3video.errors", "m3video.utils.text"),
    ):
        assert violations(importer, {imported, "torch"}) == [f"{importer} imports {imported}"]
    assert violations("m3video.inference.session", {"m3video.model.m3.modeling", "m3video.__version__"}) == []


def module_of(name: str, known: dict[str, set[str]]) -> str:
    """The module that an imported name is, or is in."""
    return name if name in known else name.rpartition(".")[0]


def circle(imported: dict[str, set[str]]) -> list[str]:
    """Modules that import each other in a ring, the first one twice; nothing where there is none."""
    after = {name: {module_of(each, imported) for each in names} & imported.keys() for name, names in imported.items()}
    done: set[str] = set()
    for start in after:
        path, waiting = [start], [iter(sorted(after[start] - {start}))]
        while path:
            following = next(waiting[-1], None)
            if following is None:
                done.add(path.pop())
                waiting.pop()
            elif following in path:
                return [*path[path.index(following) :], following]
            elif following not in done:
                path.append(following)
                waiting.append(iter(sorted(after[following] - {following})))
    return []


def test_no_modules_import_each_other_in_a_circle() -> None:
    """In functions too: an import that is late to break a circle hides it only."""
    found = circle(IMPORTS)
    assert not found, " -> ".join(found)


def test_the_circle_test_can_fail() -> None:
    ring = {"a": {"b.name", "json"}, "b": {"c"}, "c": {"d", "b.x"}, "d": set()}
    assert circle(ring) == ["b", "c", "b"]
    assert circle({**ring, "c": {"d", "a"}}) == ["a", "b", "c", "a"]
    assert circle({**ring, "c": {"d"}}) == []


def test_only_distributed_imports_ray() -> None:
    users = {name for name, names in IMPORTS.items() if any(each.split(".")[0] == "ray" for each in names)}
    assert users
    assert {name for name in users if not name.startswith("m3video.distributed.")} == set()


# Imports each module that must be light, and after each prints which heavy ones have come with it.
WHAT_LOADS = """
import importlib, sys
for name in sys.argv[2:]:
    importlib.import_module(name)
    for heavy in sys.argv[1].split(","):
        if heavy in sys.modules:
            sys.exit(f"{name} loads {heavy}")
"""


def what_loads(names: list[str], heavy: tuple[str, ...]) -> str:
    """In a new process: "MODULE loads HEAVY" of the first that does, or nothing."""
    command = [sys.executable, "-c", WHAT_LOADS, ",".join(heavy), *names]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert (done.returncode, done.stdout) == (int(bool(done.stderr)), "")
    assert "Traceback" not in done.stderr, done.stderr
    return done.stderr.strip()


def test_light_modules_load_neither_torch_nor_ray() -> None:
    """`m3video.cli` is the package as the program starts it; its verbs are imported by it."""
    named = [
        name for name in MODULES if name in LIGHT or name.startswith(("m3video.planning.", "m3video.distributed."))
    ]
    assert len(named) > 30
    assert what_loads(named, HEAVY) == ""


def test_what_loads_a_heavy_module_is_named() -> None:
    names = ["m3video.errors", "m3video.config", "m3video.cli"]
    assert what_loads(names, ("torch", "pydantic")) == "m3video.config loads pydantic"


def sources() -> list[Path]:
    return [path for folder in (PACKAGE, ROOT / "tests", ROOT / "scripts") for path in sorted(folder.rglob("*.py"))]


def lengths(source: str) -> Iterator[tuple[str, int]]:
    """Name and number of lines of each function, decorators and all."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
            yield node.name, node.end_lineno - first + 1


def test_files_and_functions_are_not_long() -> None:
    long = []
    for path in sources():
        source = path.read_text(encoding="utf-8")
        where = path.relative_to(ROOT)
        if len(source.splitlines()) > MAX_FILE_LINES:
            long.append(f"{where}: {len(source.splitlines())} lines")
        long += [f"{where}: {name}: {count} lines" for name, count in lengths(source) if count > MAX_FUNCTION_LINES]
    assert not long, "\n".join(long)


def test_lengths_are_counted() -> None:
    source = "@one\n@two\ndef outer():\n    async def inner():\n        pass\n    return 3\n"
    assert dict(lengths(source)) == {"outer": 6, "inner": 2}


def test_the_package_has_few_entries() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--", "m3video"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    files = [Path(name) for name in listed.stdout.split("\0") if name]
    if listed.returncode or not files:  # not a checkout
        files = [path.relative_to(ROOT) for path in PACKAGE.rglob("*") if "__pycache__" not in path.parts]
    entries = {path.parts[1] for path in files}
    assert {"cli", "types", "errors.py"} <= entries
    assert len(entries) <= MAX_ENTRIES, sorted(entries)
