"""The table: medians of interleaved repeats, as text, Markdown and JSON."""

import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.figures import Figure
from benchmarks.measure import Measured, Setting, cores

__all__ = ["HEADINGS", "Result", "insert", "machine", "markdown", "row", "to_json"]

HEADINGS = ("figure", "geoae", "floor or peer", "", "ratio", "processor", "goal", "", "memory", "of peer")


BEGIN, END = "<!-- begin: benchmarks -->", "<!-- end: benchmarks -->"
"""Between these lines of a document stands a run."""


@dataclass(frozen=True)
class Result:
    """All repeats of one figure; repeat by repeat, geoae and the other ran one after the other.

    Parameters
    ----------
    figure
        What was measured.
    geoae, other
        One measurement a repeat.
    missing
        Why there are none; None if there are.
    """

    figure: Figure
    geoae: tuple[Measured, ...] = ()
    other: tuple[Measured, ...] = ()
    missing: str | None = None

    @property
    def ratio(self) -> float:
        """Median of the ratios of each repeat: what slows both down slows them alike."""
        return median(self.figure.ratio_of(a, b) for a, b in zip(self.geoae, self.other, strict=True))

    @property
    def processor(self) -> float:
        """The same of processor time, which other programs disturb less."""
        pairs = [(a.cpu, b.cpu) for a, b in zip(self.geoae, self.other, strict=True)]
        pairs = [(b, a) for a, b in pairs] if self.figure.ratio == "speed" else pairs
        return median(a / max(b, 1e-9) for a, b in pairs)

    @property
    def reached(self) -> bool | None:
        """Whether the median reaches the goal; None without a goal."""
        return self.figure.reached(self.ratio, middle(self.geoae), middle(self.other))


def middle(measured: Sequence[Measured]) -> Measured:
    """Return the measurement of median time."""
    return sorted(measured, key=lambda one: one.seconds)[len(measured) // 2]


def row(result: Result, setting: Setting) -> tuple[str, ...]:
    """Return one line of the table."""
    figure = result.figure
    if result.missing is not None:
        return (figure.title, "skipped", result.missing, "", "", "", figure.goal_text, "", "", "")
    ours, other = middle(result.geoae), middle(result.other)
    reached = result.reached
    return (
        figure.title,
        _time(ours, figure, setting),
        figure.other,
        _time(other, figure, setting),
        f"{result.ratio:.2f}",
        f"{result.processor:.2f}",
        figure.goal_text,
        "" if reached is None else "reached" if reached else "missed",
        _size(max(one.memory for one in result.geoae)),
        _size(max(one.memory for one in result.other)),
    )


def _time(measured: Measured, figure: Figure, setting: Setting) -> str:
    seconds = measured.seconds
    text = f"{seconds:.2f} s" if seconds >= 0.1 else f"{seconds * 1000:.0f} ms"
    if figure.amount is not None:
        number, what = figure.amount(setting)
        rate = number / seconds
        text += f", {rate:,.0f} {what}/s" if rate >= 100 else f", {rate:.1f} {what}/s"
    if figure.quality is not None:
        text += f", {_SHORT.get(figure.quality, figure.quality)} {measured.notes[figure.quality]:.4f}"
    return text


_SHORT = {"explained_variance_ratio": "explained", "ari": "ARI"}


def _size(size: float) -> str:
    return f"{size / 1e6:,.0f} MB"


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Write a table that is also readable as text."""
    widths = [max(len(line[i]) for line in [HEADINGS, *rows]) for i in range(len(HEADINGS))]

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"

    return "\n".join([line(HEADINGS), line(["-" * width for width in widths]), *map(line, rows)])


def machine() -> str:
    """Say what a run was made on: processor, memory, versions."""
    model = platform.machine()
    information = Path("/proc/cpuinfo")
    if information.exists():
        lines = information.read_text(encoding="utf-8").splitlines()
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        model = names[0] if names else model
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    versions = [f"{name} {version(name)}" for name in ("numpy", "zarr", "rasterio", "scikit-learn")]
    python = f"Python {platform.python_version()}"
    return f"{cores()} cores of {model}, {memory:.0f} GiB; {', '.join([python, *versions])}."


def insert(document: str, text: str) -> str:
    """Put the text of a run between the marks of a document.

    Raises
    ------
    ValueError
        If the marks are not there.
    """
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the document has no {BEGIN} ... {END}")
    return f"{before}{begin}\n\n{text.strip()}\n\n{end}{after}"


def to_json(results: Sequence[Result], setting: Setting, load: float | None) -> dict[str, Any]:
    """Return everything that was measured as JSON values."""
    shared = asdict(setting)
    del shared["folder"]
    return {
        "setting": shared,
        "other_programs": load,
        "figures": {
            result.figure.name: {
                "missing": result.missing,
                "goal": result.figure.goal_text,
                **(
                    {}
                    if result.missing is not None
                    else {
                        "ratio": result.ratio,
                        "processor_ratio": result.processor,
                        "reached": result.reached,
                        "geoae": [asdict(one) for one in result.geoae],
                        "other": [asdict(one) for one in result.other],
                    }
                ),
            }
            for result in results
        },
    }
