"""The figures: what is measured, beside what, and which ratio is the goal."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Literal

from benchmarks.measure import Measured, Setting, Work

__all__ = ["Figure", "find_figure", "load_figures"]

MODULES = (
    "ingestion",
    "batches",
    "encoding",
    "components",
    "summaries",
    "clusters",
    "export",
    "startup",
    "full",
)


@dataclass(frozen=True)
class Figure:
    """One line of the table.

    Parameters
    ----------
    name
        Short, as in ``--only``.
    title
        What geoae does.
    other
        What stands beside it: the floor or the peer.
    sides
        ``geoae`` and the other: each prepares, and returns the work that is measured.
    ratio
        ``time``: geoae's seconds divided by the other's. ``speed``: the other's divided by geoae's.
        ``seconds``: as ``time``, but the goal is one for geoae's seconds. ``memory``: geoae's peak memory
        divided by the other's.
    goal
        The ratio to reach; None for a figure without one.
    quality
        Name of a note in which geoae may be worse than the peer by no more than `slack`.
    amount
        How many of what is done, for a rate; None for none.
    missing
        Says why the figure cannot be measured; None if it can.
    prepare
        Makes what the figure needs beside the scenes and the cube of all; kept from run to run.
    most
        Peak memory in bytes below which geoae must stay; None for no such goal.
    once
        Measure once, however many repeats are asked for: of what takes long and varies little.
    """

    name: str
    title: str
    other: str
    sides: Mapping[str, Callable[[Setting], Work]]
    ratio: Literal["time", "speed", "seconds", "memory"]
    goal: float | None
    quality: str | None = None
    slack: float = 0.0
    amount: Callable[[Setting], tuple[int, str]] | None = None
    missing: Callable[[], str | None] = lambda: None
    prepare: Callable[[Setting], None] = lambda _: None
    most: float | None = None
    once: bool = False

    @property
    def goal_text(self) -> str:
        """The goal as one reads it."""
        if self.goal is None:
            return "-"
        if self.ratio == "seconds":
            return f"< {self.goal:g} s"
        if self.ratio == "memory":
            return f"<= {self.goal:g} of memory" + (f", < {self.most / 1e6:g} MB" if self.most else "")
        return f"<= {self.goal:g}" if self.ratio == "time" else f">= {self.goal:g}"

    def ratio_of(self, geoae: Measured, other: Measured) -> float:
        """Return the ratio of two measurements."""
        if self.ratio == "memory":
            return geoae.memory / other.memory
        return other.seconds / geoae.seconds if self.ratio == "speed" else geoae.seconds / other.seconds

    def reached(self, ratio: float, geoae: Measured, other: Measured) -> bool | None:
        """Say whether the goal is reached; None without a goal."""
        if self.goal is None:
            return None
        if self.ratio == "seconds":
            return geoae.seconds < self.goal
        good = ratio >= self.goal if self.ratio == "speed" else ratio <= self.goal
        good = good and (self.most is None or geoae.memory < self.most)
        if self.quality is not None:
            good = good and geoae.notes[self.quality] >= other.notes[self.quality] - self.slack
        return good


def load_figures() -> dict[str, Figure]:
    """Return all figures by name, in the order of the table."""
    modules = [import_module(f"benchmarks.figures.{name}") for name in MODULES]
    return {figure.name: figure for module in modules for figure in module.FIGURES}


def find_figure(name: str) -> Figure:
    """Return one figure."""
    return load_figures()[name]
