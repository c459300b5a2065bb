"""Measuring: wall clock, processor time and peak memory of one piece of work in a process of its own."""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

__all__ = ["Measured", "Setting", "cores", "measure", "other_load", "run_side"]

Notes = Mapping[str, float]
Work = Callable[[], Notes]


@dataclass(frozen=True)
class Setting:
    """What all figures share.

    Parameters
    ----------
    folder
        Where data is kept from run to run.
    scenes, size
        How many scenes, and their side in pixels.
    rows
        Patches that are read for principal components: the peer holds them in memory twice.
    latents
        Rows for k-means.
    polygons
        Polygons to export.
    views
        Scenes of the data sets that are as large as US3D but empty.
    """

    folder: Path
    scenes: int
    size: int
    rows: int
    latents: int
    polygons: int
    views: int

    @property
    def source(self) -> Path:
        """Folder of the scenes."""
        return self.folder / f"us3d-{self.scenes}x{self.size}"

    @property
    def cube(self) -> Path:
        """The cube that is made of them."""
        return self.folder / f"{self.source.name}.zarr"

    def sparse(self, scenes: int, size: int) -> Path:
        """Folder of scenes without a pixel stored."""
        return self.folder / f"sparse-{scenes}x{size}"

    @property
    def full_cube(self) -> Path:
        """A cube with as many scenes and patches as US3D has, of few pixels."""
        return self.folder / f"full-{self.views}.zarr"

    def to_json(self) -> str:
        """Write the setting for another process."""
        return json.dumps({**asdict(self), "folder": str(self.folder)})

    @classmethod
    def from_json(cls, text: str) -> "Setting":
        """Read what `to_json` wrote."""
        values = json.loads(text)
        return cls(**{**values, "folder": Path(values["folder"])})


@dataclass(frozen=True)
class Measured:
    """One measurement.

    Parameters
    ----------
    seconds
        What counts: the wall clock, or what the work itself says in the note ``seconds``.
    cpu
        Processor time of the process and its children in seconds, or the note ``cpu``.
    memory
        Peak resident memory of the process in bytes, imports and preparation included.
    notes
        What else it found.
    """

    seconds: float
    cpu: float
    memory: float
    notes: dict[str, float] = field(default_factory=dict)


def cores() -> int:
    """Return the processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def peak_memory() -> int:
    """Return the most memory that this process has had resident, in bytes.

    From ``VmHWM`` of ``/proc/self/status`` where there is one: ``ru_maxrss`` of a process begins with what
    its parent held when it was started.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def processor_seconds() -> float:
    """Return the processor time of this process and of its children that have ended."""
    parts = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(part.ru_utime + part.ru_stime for part in parts)


def measure(work: Work) -> Measured:
    """Do a piece of work once and say what it took."""
    cpu, start = processor_seconds(), time.perf_counter()
    notes = dict(work())
    seconds, cpu = time.perf_counter() - start, processor_seconds() - cpu
    memory = int(notes.pop("memory", peak_memory()))
    return Measured(notes.pop("seconds", seconds), notes.pop("cpu", cpu), memory, notes)


def thread_settings() -> dict[str, str]:
    """Return the environment of both sides: equal numbers of threads, which sleep when they have no work.

    By default threads that wait for work spin: that is processor time for nothing, and on a machine where
    another thread has work it slows that down.
    """
    number = str(cores())
    return {
        "OMP_NUM_THREADS": number,
        "OPENBLAS_NUM_THREADS": number,
        "MKL_NUM_THREADS": number,
        "OMP_WAIT_POLICY": "PASSIVE",
        "GOMP_SPINCOUNT": "0",
        "OPENBLAS_THREAD_TIMEOUT": "4",  # 2**4 cycles, the least
    }


def run_side(figure: str, side: str, setting: Setting) -> Measured:
    """Measure one side of a figure in a fresh process.

    Raises
    ------
    RuntimeError
        If it fails.
    """
    command = [sys.executable, "-m", "benchmarks.worker", figure, side, setting.to_json()]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **thread_settings()}
    )
    if done.returncode:
        raise RuntimeError(f"{figure}, {side}: {done.stderr.strip()[-2000:]}")
    values = json.loads(done.stdout.splitlines()[-1])
    return Measured(**values)


def other_load() -> Callable[[], float | None]:
    """Begin to watch what other programs use of the machine.

    Returns
    -------
    callable
        Gives the processors that were busy with anything but this process and its children since, or
        None where that cannot be told.
    """
    start, own, before = time.perf_counter(), processor_seconds(), _busy_seconds()

    def ask() -> float | None:
        now = _busy_seconds()
        if before is None or now is None:
            return None
        return max(now - before - (processor_seconds() - own), 0.0) / (time.perf_counter() - start)

    return ask


def _busy_seconds() -> float | None:
    try:
        line = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0]
    except OSError:
        return None
    user, nice, system, _, _, irq, softirq, steal = (int(part) for part in line.split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
