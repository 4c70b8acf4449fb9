"""The house rules that a machine can check: imports point downward, and planning is light to import."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import m3video

PACKAGE = Path(m3video.__file__).parent
LAYERS = {
    "types": 0,
    "clocks": 0,
    "sizes": 0,
    "machine": 0,
    "files": 0,
    "cache": 0,
    "progress": 0,
    "scales": 0,
    "config": 0,
    "errors": 0,
    "texts": 0,
    "json_lines": 0,
    "__init__": 0,
    "video": 1,
    "planning": 1,
    "model": 1,
    "pipeline": 2,
    "image_grid": 2,
    "frame_grids": 2,
    "saliency": 2,
    "session": 2,
    "shown": 2,
    "summary": 2,
    "memory": 2,
    "measuring": 2,
    "distributed": 3,
    "evaluation": 3,
    "training": 3,
    "cli": 4,
    "cli_eval": 4,
    "cli_batch": 4,
    "cli_session": 4,
    "cli_cache": 4,
    "cli_memory": 4,
    "cli_options": 4,
    "terminal": 4,
    "streams": 4,
    "serve": 4,
    "figures": 4,
    "__main__": 4,
    "cli_tune": 4,
    "plan_page": 4,
    "thumbnails": 4,
    "timing": 4,
}
# Values share one floor and so do the faces; the rooms between them must not know their siblings.
OPEN_LAYERS = {0, 4}
# One way only: rendered footage with known truth is what training draws from and, held out, a benchmark.
# A summary is many looks at one video, each of them the pipeline's.
MAY_ALSO_IMPORT = {
    "evaluation": {"training"},
    "summary": {"pipeline", "shown"},
    "shown": {"pipeline", "memory"},
    "pipeline": {"memory"},
    "session": {"pipeline", "image_grid", "frame_grids", "memory", "saliency"},
    "saliency": {"pipeline"},
    "measuring": {"memory", "session"},
}
MODULES = sorted(PACKAGE.rglob("*.py"))


def room(module: str) -> str:
    """`m3video.video.reader` -> `video`."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def imports(path: Path) -> set[str]:
    """Absolute names of everything a file imports, lazily or not."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def violations(importer: str, imported: set[str]) -> list[str]:
    """Imports of m3video modules that point up or sideways."""
    bad = []
    for name in sorted(imported):
        if name.split(".")[0] != "m3video" or name == "m3video.__version__":
            continue
        target = room(name)
        same_room = target == importer
        higher = LAYERS[target] > LAYERS[importer]
        sideways = LAYERS[target] == LAYERS[importer] and not same_room and LAYERS[importer] not in OPEN_LAYERS
        if higher or (sideways and target not in MAY_ALSO_IMPORT.get(importer, set())):
            bad.append(name)
    return bad


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_downward(path: Path) -> None:
    relative = path.relative_to(PACKAGE)
    importer = relative.parts[0].removesuffix(".py")
    assert importer in LAYERS, f"{importer} has no layer: give it one here and in the README's picture"
    assert violations(importer, imports(path)) == []


def test_the_layer_test_can_fail() -> None:
    assert violations("video", {"m3video.planning.allocate"}) == ["m3video.planning.allocate"]
    assert violations("types", {"m3video.video.reader"}) == ["m3video.video.reader"]
    assert violations("pipeline", {"m3video.model.m3.modeling", "m3video.types", "torch"}) == []
    assert violations("training", {"m3video.evaluation.run"}) == ["m3video.evaluation.run"]
    assert violations("evaluation", {"m3video.training.footage", "m3video.distributed.jobs"}) == [
        "m3video.distributed.jobs"
    ]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_distributed_imports_ray(path: Path) -> None:
    if path.relative_to(PACKAGE).parts[0] != "distributed":
        assert not {name for name in imports(path) if name.split(".")[0] == "ray"}


PLANNING = [f"m3video.planning.{path.stem}" for path in sorted((PACKAGE / "planning").glob("[a-z]*.py"))]
DISTRIBUTED = [f"m3video.distributed.{path.stem}" for path in sorted((PACKAGE / "distributed").glob("[a-z]*.py"))]


@pytest.mark.parametrize("module", ["m3video.planning", *PLANNING, *DISTRIBUTED, "m3video.config", "m3video.cli"])
def test_import_loads_neither_torch_nor_ray(module: str) -> None:
    script = f"import sys, {module}; print(sorted({{'torch', 'transformers', 'ray'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
