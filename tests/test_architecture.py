"""The house rules that a machine can check: imports point downward without circles, and light modules load nothing
heavy."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import m3video
from tests.paths import ROOT

PACKAGE = Path(m3video.__file__).parent
ORDER = (
    ("errors",),
    ("utils",),
    ("types",),
    ("config",),
    ("video", "planning", "model"),  # siblings: they do not know each other
    ("inference",),
    ("report",),
    ("distributed",),
    ("training",),
    ("evaluation",),
    ("serve",),
    ("cli",),
)
"""The packages from the ground up: each may import those before it. `m3video` itself is the public face, above all."""
FLOOR = {package: floor for floor, packages in enumerate(ORDER) for package in packages}
MOST_ENTRIES = 17
MOST_LINES = 400
MOST_LINES_OF_A_FUNCTION = 80

Imports = Mapping[str, set[str]]
"""Module -> full names of all that it imports, at the top or inside functions."""


def module_of(path: Path) -> str:
    """Return a file's module: `m3video/video/reader.py` -> `m3video.video.reader`."""
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


def imported(text: str) -> set[str]:
    """Return the absolute names that a source text imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports are not used here"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def of_package() -> dict[str, set[str]]:
    """Return what each module of the package imports."""
    return {module_of(path): imported(path.read_text(encoding="utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}


def upward(modules: Imports) -> Iterator[str]:
    """Find imports that point up or sideways."""
    for module, names in modules.items():
        package = (*module.split("."), "")[1]
        for name in sorted(names):
            parts = name.split(".")
            if parts[0] != "m3video" or name in ("m3video", "m3video.__version__"):
                continue
            if package not in ("", parts[1]) and FLOOR[parts[1]] >= FLOOR[package]:
                yield f"{module} imports {name}"


def circles(modules: Imports) -> list[list[str]]:
    """Find modules that import each other, directly or through others."""
    known = {name: {_nearest(target, modules) for target in targets} - {name, ""} for name, targets in modules.items()}
    known.pop("m3video", None)  # the public face imports only when it is asked
    found = []
    while True:
        leaves = [name for name, targets in known.items() if not targets & known.keys()]
        if not leaves:
            break
        for name in leaves:
            del known[name]
    while known:  # every module left reaches a circle: walk until one comes again
        walk = [next(iter(known))]
        while walk.count(walk[-1]) == 1:
            walk.append(sorted(known[walk[-1]] & known.keys())[0])
        found.append(walk[walk.index(walk[-1]) :])
        break
    return found


def _nearest(name: str, modules: Imports) -> str:
    """Return the module that an imported name is or is in, '' if it is none of ours."""
    if name in modules:
        return name
    parent = name.rpartition(".")[0]
    return parent if parent in modules else ""


def test_imports_point_downward() -> None:
    modules = of_package()
    unknown = {(*module.split("."), "")[1] for module in modules} - FLOOR.keys() - {""}
    assert not unknown, f"{unknown} stand on no floor: give them one here and in docs/architecture.md"
    assert list(upward(modules)) == []


def test_an_import_that_points_up_is_found() -> None:
    assert list(upward({"m3video.video.x": {"m3video.planning.allocate"}})) == [
        "m3video.video.x imports m3video.planning.allocate"
    ]
    assert list(upward({"m3video.types.x": {"m3video.video.reader"}}))
    assert list(upward({"m3video.training.x": {"m3video.evaluation.run"}}))
    assert not list(upward({"m3video.evaluation.x": {"m3video.training.footage", "m3video.__version__", "torch"}}))


def test_no_module_imports_itself_through_others() -> None:
    assert circles(of_package()) == []


def test_a_circle_is_found() -> None:
    a_circle = {"m3video.a": {"m3video.b.name", "os"}, "m3video.b": {"m3video.c"}, "m3video.c": {"m3video.a"}}
    assert circles({**a_circle, "m3video.d": {"m3video.a"}}) == [["m3video.a", "m3video.b", "m3video.c", "m3video.a"]]
    assert circles({"m3video.a": {"m3video.b"}, "m3video.b": {"os"}}) == []


def test_only_distributed_imports_ray() -> None:
    using = {module for module, names in of_package().items() if any(name.partition(".")[0] == "ray" for name in names)}
    assert using
    assert {module.split(".")[1] for module in using} == {"distributed"}


def test_only_serve_imports_a_web_framework() -> None:
    web = {"fastapi", "starlette", "uvicorn", "prometheus_client", "httpx", "mcp"}
    using = {module for module, names in of_package().items() if {name.partition(".")[0] for name in names} & web}
    assert {module.split(".")[1] for module in using} == {"serve"}


def test_files_and_functions_are_of_a_size_to_read() -> None:
    long_files, long_functions = [], []
    for folder in ("m3video", "tests", "scripts"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            text = path.read_text(encoding="utf-8")
            if text.count("\n") > MOST_LINES:
                long_files.append(str(path.relative_to(ROOT)))
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                    assert node.end_lineno is not None
                    if node.end_lineno - node.lineno >= MOST_LINES_OF_A_FUNCTION:
                        long_functions.append(f"{path.relative_to(ROOT)}: {node.name}")
    assert (long_files, long_functions) == ([], [])


def test_the_package_has_few_entries() -> None:
    entries = {path.name for path in PACKAGE.iterdir() if path.name != "__pycache__"}
    assert len(entries) <= MOST_ENTRIES, sorted(entries)


def test_light_modules_load_nothing_heavy() -> None:
    """Each of them is imported in a process of its own that was forked before; the first heavy one is named."""
    light = [
        module
        for module in of_package()
        if module.split(".")[1:2] in (["planning"], ["distributed"], ["utils"], ["types"], ["config"], ["errors"])
        or module in ("m3video.cli", "m3video.cli.options")
    ]
    assert len(light) > 40
    script = """
import importlib, json, os, sys
import av, cv2, numpy, pyarrow.parquet, pydantic, rich.console, scipy.optimize, typer  # what is shared loads once
HEAVY = {"torch", "transformers", "ray"}
bad = []
for module in json.loads(sys.argv[1]):
    ends, starts = os.pipe()
    if not os.fork():
        importlib.import_module(module)
        os.write(starts, json.dumps(sorted(HEAVY & set(sys.modules))).encode())
        os._exit(0)
    os.close(starts)
    with os.fdopen(ends, "rb") as pipe:
        text = pipe.read()
    if text != b"[]":
        bad.append([module, text.decode() or "does not import"])
    os.wait()
print(json.dumps(bad))
"""
    done = subprocess.run(
        [sys.executable, "-c", script, json.dumps(light)], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert json.loads(done.stdout) == [], done.stderr
