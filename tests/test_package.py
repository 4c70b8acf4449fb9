"""The wheel and the sdist: built without a network, complete, alike, and able to answer when installed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from configparser import ConfigParser
from email.parser import Parser
from pathlib import Path

import pytest

import m3video
from tests.paths import ROOT, SAMPLE

QUESTION = "What colour is the background at 0:03?"
NOT_SOURCES = (
    ".git",
    ".venv",
    "build",
    "dist",
    "runs",
    "shared",
    "*.egg-info",
    "__pycache__",
    ".*_cache",
    ".hypothesis",
)

_BUILD = """
import sys
from setuptools import build_meta
print(getattr(build_meta, "build_" + sys.argv[1])(sys.argv[2]))
"""
"""What `python -m build --no-isolation` does: the build backend that pyproject.toml names, in this environment."""


def build(kind: str, sources: Path, target: Path) -> Path:
    """Build a "wheel" or an "sdist" of a source tree, and return the file."""
    command = [sys.executable, "-c", _BUILD, kind, str(target)]
    done = subprocess.run(command, cwd=sources, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return target / done.stdout.splitlines()[-1]


def files_of(wheel: Path) -> dict[str, bytes]:
    """Return the files of a wheel with their contents."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return (wheel, sdist) of a copy of the checkout, so that the checkout stays as it is."""
    folder = tmp_path_factory.mktemp("package")
    sources = folder / "sources"
    shutil.copytree(ROOT, sources, ignore=shutil.ignore_patterns(*NOT_SOURCES))
    sdist = build("sdist", sources, folder)
    shutil.rmtree(sources / "m3video.egg-info")
    return build("wheel", sources, folder), sdist


def test_the_wheel_has_all_of_the_package_and_nothing_else(built: tuple[Path, Path]) -> None:
    found = {name for name in files_of(built[0]) if ".dist-info/" not in name}
    package = ROOT / "m3video"
    wanted = {path for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert found == {path.relative_to(ROOT).as_posix() for path in wanted}
    named = ("py.typed", "assets/sample.mp4", "assets/natural.mp4", "assets/rendered/model.safetensors")
    assert found >= {f"m3video/{name}" for name in named}


def test_the_wheel_says_what_it_is(built: tuple[Path, Path]) -> None:
    files = files_of(built[0])
    info = f"m3video-{m3video.__version__}.dist-info"
    entries = ConfigParser()
    entries.read_string(files[f"{info}/entry_points.txt"].decode())
    assert dict(entries["console_scripts"]) == {"m3video": "m3video.cli:main"}
    metadata = Parser().parsestr(files[f"{info}/METADATA"].decode())
    assert metadata["Version"] == m3video.__version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert f"{info}/licenses/LICENSE" in files


def test_the_sdist_builds_the_same_wheel(built: tuple[Path, Path], tmp_path: Path) -> None:
    wheel, sdist = built
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    again = build("wheel", tmp_path / sdist.name.removesuffix(".tar.gz"), tmp_path)
    assert again.name == wheel.name
    assert files_of(again) == files_of(wheel)


def test_the_installed_wheel_answers_as_the_checkout(built: tuple[Path, Path], tmp_path: Path) -> None:
    here = tmp_path / "venv"
    venv.create(here, with_pip=False, symlinks=True)
    python = here / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--isolated", "--disable-pip-version-check", "--python", str(python), "install"]
    subprocess.run([*pip, "--quiet", "--no-deps", "--no-index", str(built[0])], check=True)
    # The dependencies are those of the running environment. Of its .pth files none is read, so no checkout is seen.
    site = Path(sysconfig.get_path("purelib", vars={"base": str(here), "platbase": str(here)}))
    dependencies = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (site / "dependencies.pth").write_text("".join(f"{path}\n" for path in sorted(dependencies)), encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"HF_HUB_OFFLINE": "1"}

    def run(command: list[str], folder: Path) -> str:
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    place = run([str(python), "-c", "import m3video; print(m3video.__file__)"], tmp_path).strip()
    assert Path(place) == site / "m3video" / "__init__.py"
    shutil.copy(SAMPLE, tmp_path / SAMPLE.name)
    ask = ["ask", str(tmp_path / SAMPLE.name), QUESTION, "--json", "--quiet", "--no-cache"]
    installed = json.loads(run([str(here / "bin" / "m3video"), *ask], tmp_path))
    of_checkout = json.loads(run([sys.executable, "-m", "m3video.cli", *ask], ROOT))
    assert installed["answer"] == "green"
    for each in (installed, of_checkout):
        del each["evidence"]["seconds"]
    costs = ("stage_seconds", "peak_memory_bytes")
    assert {k: v for k, v in installed.items() if k not in costs} == {
        k: v for k, v in of_checkout.items() if k not in costs
    }
