"""Progress on stderr: a bar on a terminal, a line now and then elsewhere."""

import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

__all__ = ["Report", "progress"]

Report = Callable[[str, int, int, Mapping[str, float]], None]

_TITLES = {
    "synthesise": "Writing scenes",
    "headers": "Reading headers",
    "pixels": "Reading pixels",
    "patches": "Writing patches",
    "normalise": "Measuring channels",
    "encode": "Encoding",
    "verify": "Verifying",
    "summarize": "Summarising",
}

_STEPS = 4
"""Lines for a whole stage where there is no terminal."""


def _title(stage: str) -> str:
    """Name a stage; all of geoae's are above, others are an encoder's own, such as ``pass 2``."""
    return _TITLES.get(stage, f"Fitting, {stage}")


def silent(_stage: str, _done: int, _total: int, _values: Mapping[str, float]) -> None:
    """Report nothing."""


@contextmanager
def progress(quiet: bool) -> Iterator[Report]:
    """Give a function that reports progress while the context lasts."""
    if quiet:
        yield silent
    elif sys.stderr.isatty():
        with _bar() as report:
            yield report
    else:
        yield _lines()


@contextmanager
def _bar() -> Iterator[Report]:
    # put off: rich costs 0.1 s and is for terminals only
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[values]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=False) as bar:
        tasks: dict[str, object] = {}

        def report(stage: str, done: int, total: int, values: Mapping[str, float]) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(_title(stage), total=total, values="")
            shown = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
            bar.update(tasks[stage], completed=done, total=total, values=shown)  # type: ignore[arg-type]

        yield report


def _lines() -> Report:
    printed: dict[str, int] = {}
    lock = threading.Lock()

    def report(stage: str, done: int, total: int, values: Mapping[str, float]) -> None:
        step = _STEPS * done // max(total, 1)
        with lock:
            if step <= printed.get(stage, 0):
                return
            printed[stage] = step
        shown = "".join(f", {name} {value:.4g}" for name, value in values.items())
        print(f"{_title(stage)}: {done} of {total}{shown}", file=sys.stderr)

    return report
