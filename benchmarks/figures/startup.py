"""Start of the command line beside the start of Python."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec

from benchmarks.figures import Figure
from benchmarks.figures.full import make_full_cube
from benchmarks.measure import Setting, Work

_HEAVY = ("torch", "sklearn", "geopandas", "matplotlib")
_TIMES = 5


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", f"from geoae.cli import main; main({list(arguments)!r})"]


def _opening(cube: str) -> list[str]:
    return [sys.executable, "-c", f"import geoae; geoae.open_cube({cube!r})"]


def _timed(command: Callable[[Setting], list[str]]) -> Callable[[Setting], Work]:
    """Run a command some times: the median is measured, and the memory of the last one."""

    def side(setting: Setting) -> Work:
        def work() -> dict[str, float]:
            seconds, cpu = [], []
            memory = 0
            for _ in range(_TIMES):
                start = time.perf_counter()
                process = subprocess.Popen(command(setting), stdout=subprocess.DEVNULL)
                _, status, usage = os.wait4(process.pid, 0)
                seconds.append(time.perf_counter() - start)
                process.returncode = os.waitstatus_to_exitcode(status)
                if process.returncode:
                    raise RuntimeError(f"{command(setting)} ended with {process.returncode}")
                cpu.append(usage.ru_utime + usage.ru_stime)
                memory = usage.ru_maxrss * 1024
            return {
                "seconds": sorted(seconds)[_TIMES // 2],
                "cpu": sorted(cpu)[_TIMES // 2],
                "memory": memory,
                "imports": _imported(command(setting)),
            }

        return work

    return side


def _imported(command: list[str]) -> int:
    """Count the heavy packages that a command imports."""
    timed = [command[0], "-X", "importtime", *command[1:]]
    text = subprocess.run(timed, capture_output=True, text=True, check=True).stderr
    modules = {
        line.rsplit("|", 1)[-1].strip() for line in text.splitlines() if line.startswith("import time:")
    }
    return len(modules & set(_HEAVY))


def _open_cube(setting: Setting) -> Work:
    """Open the cube once, in a process that has imported what it needs."""
    import dask.array  # noqa: F401

    from geoae.dataset import open_cube

    def work() -> dict[str, float]:
        dataset = open_cube(setting.full_cube)
        return {"patches": dataset.sizes["patch"]}

    return work


def _open_zarr(setting: Setting) -> Work:
    """Open the same by xarray itself: no layers, no coordinates in memory, the chunks as stored."""
    import dask.array  # noqa: F401
    import xarray as xr

    def work() -> dict[str, float]:
        dataset = xr.open_zarr(setting.full_cube)
        return {"patches": dataset.sizes["patch"]}

    return work


def _missing() -> str | None:
    return None if find_spec("geoae.cli") else "geoae.cli is not there"


_PYTHON = _timed(lambda _: [sys.executable, "-c", "pass"])

# What any program needs that opens a Zarr store lazily with xarray; geoae cannot be faster.
_IMPORTS = _timed(lambda _: [sys.executable, "-c", "import xarray, zarr, dask.array"])

FIGURES = (
    Figure(
        "help",
        "geoae --help",
        "floor: start of Python",
        {"geoae": _timed(lambda _: _command("--help")), "other": _PYTHON},
        "seconds",
        0.4,
        missing=_missing,
    ),
    Figure(
        "info",
        "geoae info, a cube of all of US3D",
        "floor: start of Python",
        {
            "geoae": _timed(lambda setting: _command("info", "--cube", str(setting.full_cube))),
            "other": _PYTHON,
        },
        "seconds",
        1.0,
        missing=_missing,
        prepare=make_full_cube,
    ),
    Figure(
        "open",
        "open_cube, a cube of all of US3D",
        "peer: xarray.open_zarr, the pixels alone",
        {"geoae": _open_cube, "other": _open_zarr},
        "seconds",
        1.0,
        prepare=make_full_cube,
    ),
    Figure(
        "open-process",
        "a process that imports geoae and calls open_cube",
        "floor: import xarray, zarr, dask.array",
        {"geoae": _timed(lambda setting: _opening(str(setting.full_cube))), "other": _IMPORTS},
        "time",
        None,
        prepare=make_full_cube,
    ),
)
