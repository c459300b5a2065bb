"""What is installed is what is meant: metadata, the wheel's content, and the wheel at work elsewhere."""

import ast
import configparser
import importlib.metadata
import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path
from typing import NamedTuple

import pytest
from document_examples import environment, run_page
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import geoae

REPOSITORY = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PLUGINS = sorted(path.parent.name for path in (REPOSITORY / "plugins").glob("*/__init__.py"))
EXTRA_OF_PLUGIN = {"geoae_torch": "torch"}
OPTIONAL_IN_CORE = {"distributed", "s3fs", "zarrs"}
"""What the core imports only when it is asked for, and says how to install when it is missing."""


def requirements(names: list[str]) -> dict[str, Requirement]:
    parsed = [Requirement(name) for name in names]
    return {canonicalize_name(requirement.name): requirement for requirement in parsed}


def pins() -> dict[str, str]:
    lines = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines()
    found = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    return {canonicalize_name(name): version for name, version in found.items()}


ALL_REQUIREMENTS = requirements(
    [
        *PROJECT["dependencies"],
        *(name for extra in PROJECT["optional-dependencies"].values() for name in extra),
    ]
)


@pytest.mark.parametrize("name", sorted(set(ALL_REQUIREMENTS) - {"geoae"}))
def test_every_requirement_is_pinned_to_a_version_that_it_admits(name):
    assert ALL_REQUIREMENTS[name].specifier.contains(pins()[name], prereleases=True)


def test_every_core_dependency_says_why_its_bound():
    text = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    block = text.partition("\ndependencies = [\n")[2].partition("\n]")[0]
    assert [line for line in block.splitlines() if not re.search(r'",\s+# \S', line)] == []


def test_the_version_is_the_same_everywhere():
    assert PROJECT["version"] == geoae.__version__
    assert f'version: "{geoae.__version__}"' in (REPOSITORY / "CITATION.cff").read_text(encoding="utf-8")
    assert f"## {geoae.__version__}" in (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")


def third_party_imports(folder: Path) -> set[str]:
    found = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                found.add(node.module.partition(".")[0])
    return found - set(sys.stdlib_module_names) - {"geoae", *PLUGINS}


@pytest.mark.parametrize("package", ["geoae", *PLUGINS])
def test_every_import_is_declared(package):
    folder = REPOSITORY / ("geoae" if package == "geoae" else f"plugins/{package}")
    declared = set(requirements(PROJECT["dependencies"]))
    if package == "geoae":
        declared |= OPTIONAL_IN_CORE
    elif extra := EXTRA_OF_PLUGIN.get(package):
        declared |= set(requirements(PROJECT["optional-dependencies"][extra]))
    providers = importlib.metadata.packages_distributions()
    undeclared = {
        module
        for module in third_party_imports(folder)
        if not {canonicalize_name(name) for name in providers.get(module, [module])} & declared
    }
    assert undeclared == set()


class Built(NamedTuple):
    """The built distribution files."""

    wheel: Path
    sdist: Path


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Built:
    """The wheel, built from the source distribution, so that both are proven complete."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, REPOSITORY],
        check=True,
        capture_output=True,
    )
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return Built(wheel, sdist)


def files_below(folder: Path, pattern: str = "*") -> set[str]:
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob(pattern)
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_wheel_holds_the_packages_and_the_catalogs_and_nothing_else(built):
    expected = {f"geoae/{name}" for name in files_below(REPOSITORY / "geoae")}
    expected |= files_below(REPOSITORY / "plugins")
    expected |= {f"geoae/_catalogs/{name}" for name in files_below(REPOSITORY / "catalogs")}
    with zipfile.ZipFile(built.wheel) as archive:
        content = {name for name in archive.namelist() if ".dist-info/" not in name}
        points = configparser.ConfigParser()
        points.read_string(archive.read(f"geoae-{geoae.__version__}.dist-info/entry_points.txt").decode())
        licence = archive.read(f"geoae-{geoae.__version__}.dist-info/licenses/LICENSE").decode()
    assert content == expected
    assert {
        "geoae/py.typed",
        "geoae/_catalogs/us3d.yaml",
        "geoae_pca/__init__.py",
        "geoae_pca/py.typed",
    } <= content
    assert dict(points["console_scripts"]) == {"geoae": "geoae.cli:main"}
    assert {"pca", "random-projection"} <= set(points["geoae.encoders"])
    assert "Apache License" in licence


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory) -> Path:
    """Scripts folder of an environment that holds the wheel, and the dependencies by reference.

    A plain path in a .pth file makes the dependencies importable, but the .pth files among them, the
    editable geoae's too, are not read from there: only the wheel can provide geoae.
    """
    folder = tmp_path_factory.mktemp("clean") / "environment"
    venv.EnvBuilder(with_pip=False, symlinks=os.name != "nt").create(folder)
    python = folder / "bin" / "python"
    site = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    dependencies = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (Path(site) / "dependencies.pth").write_text("\n".join(sorted(dependencies)) + "\n", encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", "-qq"]
    subprocess.run([*pip, built.wheel], check=True, capture_output=True)
    return folder / "bin"


def run_installed(scripts: Path, folder: Path, *command: str) -> str:
    return subprocess.run(
        command, cwd=folder, env=environment(scripts), check=True, capture_output=True, text=True
    ).stdout.strip()


def test_the_installed_wheel_is_what_runs(installed, tmp_path):
    code = "import geoae, geoae_pca; print(geoae.__file__); print(geoae_pca.__file__)"
    for file in run_installed(installed, tmp_path, "python", "-c", code).splitlines():
        assert Path(file).is_relative_to(installed.parent)
    assert geoae.__version__ in run_installed(installed, tmp_path, "geoae", "--version")


def test_the_installed_wheel_finds_catalogs_and_encoders(installed, tmp_path):
    code = "from geoae.catalog import shipped_catalogs; print(*sorted(shipped_catalogs()))"
    assert run_installed(installed, tmp_path, "python", "-c", code) == "generic lidar us3d"
    code = (
        "from importlib.metadata import entry_points\n"
        "for point in entry_points(group='geoae.encoders'): print(point.name, point.load().__name__)"
    )
    assert "pca PCAEncoder" in run_installed(installed, tmp_path, "python", "-c", code).splitlines()


def test_an_editable_install_reads_the_catalogs_of_the_checkout(tmp_path):
    wheel = tmp_path / "editable"
    wheel.mkdir()
    code = f"import hatchling.build; print(hatchling.build.build_editable({str(wheel)!r}))"
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=True, capture_output=True)
    with zipfile.ZipFile(next(wheel.glob("*.whl"))) as archive:
        content = [name for name in archive.namelist() if ".dist-info/" not in name]
        paths = archive.read("_geoae.pth").decode().split("\n")
    assert content == ["_geoae.pth"], "a copy inside an editable install would go stale"
    assert {Path(path) for path in paths} == {REPOSITORY, REPOSITORY / "plugins"}


@pytest.mark.slow
def test_the_quickstart_of_the_readme_runs_from_the_wheel_in_another_folder(installed, tmp_path):
    assert run_page(REPOSITORY / "README.md", tmp_path, installed) > 0
