"""A wheel holds the whole program and nothing else, and works in an empty folder of somebody who has no checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("harness", "pruners", "tasks", "pathprune")
LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.egg-info")
SMALL = ("--n", "8", "--keep", "2", "--problems", "4")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, since a build writes beside what it builds; without a network, by the setuptools that is here."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in PACKAGES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / "source" / name, ignore=LEFT_OUT)
    for name in ("tests", "results"):  # what must not be packed
        (folder / "source" / name).mkdir()
        (folder / "source" / name / "__init__.py").touch()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "source")
    options = ("--no-deps", "--no-build-isolation", "--disable-pip-version-check", "--quiet")
    command = [sys.executable, "-m", "pip", "wheel", *options, "--wheel-dir", str(folder), str(folder / "source")]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    (file,) = folder.glob("pathprune-*.whl")
    return file


def test_a_wheel_holds_every_module_and_its_data_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    info = [name for name in names if name.partition("/")[0].endswith(".dist-info")]
    expected = {
        str(file.relative_to(ROOT))
        for package in PACKAGES
        for file in (ROOT / package).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert set(names) - set(info) == expected
    for file in (
        "harness/report/page/page.js",
        "tasks/embedded/models/hands/model.safetensors",
        "pruners/checkpoints/stop/3bfac10f82c4/checkpoint.json",
    ):
        assert file in expected
    assert any(name.endswith("entry_points.txt") for name in info) and any("LICENSE" in name for name in info)


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Callable[..., tuple[int, str]]]:
    """(site-packages, a way to run ``pathprune`` in a folder): a fresh environment that borrows this one's dependencies."""
    environment = tmp_path_factory.mktemp("installed") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    (site,) = environment.glob("lib/python*/site-packages")
    # Files of a folder that a .pth names are importable, and its own .pth files, such as an editable install's, are not read.
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    python = environment / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index", "--quiet"]
    subprocess.run([*pip, "--ignore-installed", "--no-compile", str(wheel)], check=True)

    def run(folder: Path, *args: str) -> tuple[int, str]:
        plain = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
        done = subprocess.run(
            [environment / "bin" / "pathprune", *args],
            cwd=folder,
            env=plain | {"PYTHONDONTWRITEBYTECODE": "1", "HF_HUB_OFFLINE": "1"},
            capture_output=True,
            text=True,
            timeout=600,
        )
        return done.returncode, done.stdout + done.stderr

    return site, run


@pytest.mark.slow
def test_an_installed_wheel_benches_trains_and_tabulates_in_an_empty_folder(
    installed: tuple[Path, Callable[..., tuple[int, str]]], tmp_path: Path
) -> None:
    site, run = installed
    before = {file: file.stat().st_mtime_ns for file in site.rglob("*")}
    where = subprocess.run(
        [site.parents[2] / "bin" / "python", "-c", "import harness; print(harness.__file__)"],
        env={"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"}, cwd=tmp_path, capture_output=True, text=True,
    ).stdout  # fmt: skip
    assert where.startswith(str(site)), "the checkout is what was imported"

    code, out = run(tmp_path, "bench", *SMALL, "--pruner", "stop,logprob")
    assert code == 0 and "avg@2|8" in out and "records in results/local" in out, out
    code, out = run(tmp_path, "leaderboard", "--keep", "2", "--out", "board.md", "--out", "board.html")
    assert code == 0 and "| stop |" in (tmp_path / "board.md").read_text() and (tmp_path / "board.html").exists(), out

    code, out = run(tmp_path, "train", "linear-probe:epochs=1", "--problems", "24")
    assert code == 2 and "labels of 24 of 24 problems are missing in results/labels/hands-" in out.replace("\n", " ")
    assert "--labels DIR" in out and "make label" not in out
    labels = ("--problems", "24", "--labels", str(ROOT / "results" / "labels"))
    code, out = run(tmp_path, "train", "linear-probe:epochs=1", *labels)
    assert code == 0 and "checkpoint: results/checkpoints/" in out, out
    code, out = run(tmp_path, "bench", *SMALL, "--pruner", "linear-probe:epochs=1")
    assert code == 0 and "\n0 tokens generated" in out, out  # on the banked paths, by the checkpoint just trained

    assert {file.name for file in tmp_path.iterdir()} == {"results", "board.md", "board.html"}
    assert {file: file.stat().st_mtime_ns for file in site.rglob("*")} == before, "written into site-packages"
