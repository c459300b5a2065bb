"""What every test file shares: where the real rasters lie, foreign programs, a neutral environment."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import hypothesis
import pytest

os.environ.setdefault("MPLBACKEND", "Agg")  # before any test imports matplotlib

# The same examples on every machine, and no deadline: a shared machine may be slow at any moment.
hypothesis.settings.register_profile("geoae", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("geoae")

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # A shell that runs this in the background ignores Ctrl-C for all its children; some tests press it.
    signal.signal(signal.SIGINT, signal.default_int_handler)

collect_ignore = ["qgis_probe.py"]  # runs in the system's Python, which has QGIS

REPOSITORY = Path(__file__).resolve().parents[1]

MARKED_BY_FIXTURE = {"realdata": "realdata", "ogrinfo": "debian", "qgis_python": "debian"}
"""Fixture -> marker that its tests get, so that ``-m "not realdata"`` needs nothing written twice."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for fixture, marker in MARKED_BY_FIXTURE.items():
            if fixture in getattr(item, "fixturenames", ()):
                item.add_marker(marker)


@pytest.fixture(autouse=True)
def _neutral_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide settings of the developer's shell that change what commands do or print."""
    for name in ("GEOAE_CUBE", "NO_COLOR", "FORCE_COLOR", "CLICOLOR_FORCE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def realdata() -> Path:
    """Folder with the real rasters: ``$GEOAE_REALDATA``, else ``../shared/realdata`` beside the checkout."""
    folder = Path(os.environ.get("GEOAE_REALDATA") or REPOSITORY.parent / "shared" / "realdata")
    if not folder.is_dir():
        pytest.skip("the real rasters are not at hand (set GEOAE_REALDATA to their folder)")
    return folder


@pytest.fixture(scope="session")
def ogrinfo() -> str:
    """Path of GDAL's ``ogrinfo``."""
    program = shutil.which("ogrinfo")
    if program is None:
        pytest.skip("ogrinfo is not installed (Debian package gdal-bin)")
    return program


@pytest.fixture(scope="session")
def gdalinfo() -> str:
    """Path of GDAL's ``gdalinfo``."""
    program = shutil.which("gdalinfo")
    if program is None:
        pytest.skip("gdalinfo is not installed (Debian package gdal-bin)")
    return program


@pytest.fixture(scope="session")
def qgis_python() -> str:
    """The interpreter that has QGIS: the operating system's, never the one that runs the tests."""
    program = "/usr/bin/python3"
    try:
        subprocess.run([program, "-c", "import qgis.core"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("QGIS is not installed (Debian package python3-qgis)")
    return program


@pytest.fixture(scope="session")
def us3d_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic US3D of two cities, three tiles each, at most two views; never change it."""
    from geoae.testing import write_us3d

    folder = tmp_path_factory.mktemp("scenes") / "us3d"
    write_us3d(folder, tiles=3, views=2, size=128)
    return folder


@pytest.fixture(scope="session")
def us3d_cube(us3d_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its cube ``us3d.zarr`` of patches of 32 pixels, without layers; never change it, see `cube_copy`."""
    from geoae.ingestion import ingest

    path = tmp_path_factory.mktemp("cube") / "us3d.zarr"
    ingest(us3d_folder, out=path, patch=32)
    return path


@pytest.fixture
def cube_copy(us3d_cube: Path, tmp_path: Path) -> Path:
    """A copy of `us3d_cube` to work on, ``us3d.zarr`` in a folder of its own."""
    for path in us3d_cube.parent.iterdir():
        shutil.copytree(path, tmp_path / path.name)
    return tmp_path / us3d_cube.name
