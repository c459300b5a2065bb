"""``python -m studies``: run the parts of the study that are not run yet, and write its page."""

import argparse
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType

import matplotlib as mpl

from geoae.cli.memory import keep_freed_memory
from geoae.errors import GeoaeError
from studies import sweeping
from studies.claims import capacity, invariance, locality, spaces
from studies.page import write_page
from studies.place import DATA_SETS, ROOT, Finding, Place, clock, prepare
from studies.sizes import SIZES

PARTS: Mapping[str, Callable[[Place], Finding]] = {
    "networks-thesis": sweeping.networks_thesis,
    "networks-calibrated": sweeping.networks_calibrated,
    "networks-others": sweeping.networks_others,
    "latent": sweeping.latent,
    "patch-size": sweeping.patch_size,
    "c2-shift": invariance.shifts,
    "c2-activations": invariance.activations,
    "c2-batch": invariance.batch_sizes,
    "c3-interpolation": spaces.interpolation,
    "c6-dense": capacity.dense,
    "c6-amounts": capacity.amounts,
    "c8-locality": locality.locality,
    "d7-noise": spaces.noise,
}
"""In the order of the page."""

CHEAP = (
    *(part for part in PARTS if not part.startswith("networks")),
    "networks-others",
    "networks-thesis",
    "networks-calibrated",
)
"""In the order in which they are run: what is quick first."""

SMALL = {"autzen": ("latent", "c2-shift", "c6-amounts", "d7-noise", "networks-calibrated")}
"""Parts of a small study on the second data set; all on the first."""


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m studies", description=__doc__)
    parser.add_argument("--size", choices=[*SIZES], default="small", help="how large (default small)")
    parser.add_argument("--data", choices=[*DATA_SETS], action="append", help="only this data set")
    parser.add_argument("--only", help="names of parts, with commas between them")
    parser.add_argument("--list", action="store_true", help="list the parts")
    parser.add_argument("--folder", type=Path, default=Path("study"), help="where it works (default study)")
    parser.add_argument("--page", type=Path, help="the page to write (default docs/study.md)")
    parser.add_argument("--no-page", action="store_true", help="write no page")
    return parser.parse_args(arguments)


def _lines() -> Callable[[str, int, int, Mapping[str, float]], None]:
    """Report each training once."""
    seen: set[str] = set()

    def report(stage: str, _done: int, _total: int, _values: Mapping[str, float]) -> None:
        title = stage.rpartition(", ")[0] or stage
        if title not in seen:
            seen.add(title)
            print(f"    {title}", file=sys.stderr, flush=True)

    return report


def _terminated(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main(arguments: list[str] | None = None) -> int:
    """Run the study; returns the exit code."""
    options = parse(arguments)
    if options.list:
        print("\n".join(PARTS))
        return 0
    chosen = [*CHEAP] if options.only is None else options.only.split(",")
    if wrong := [part for part in chosen if part not in PARTS]:
        print(f"error: there is no part {wrong[0]!r}: one of {', '.join(PARTS)}", file=sys.stderr)
        return 2
    mpl.use("Agg")
    keep_freed_memory()
    signal.signal(signal.SIGTERM, _terminated)
    try:
        for data in options.data or DATA_SETS:
            place = Place(options.folder, data, SIZES[options.size], options.size, _lines())
            options.folder.mkdir(parents=True, exist_ok=True)
            if not prepare(place, lambda text: print(text, file=sys.stderr, flush=True)):
                continue
            for part in chosen:
                if options.only is None and options.size != "full" and part not in SMALL.get(data, PARTS):
                    continue
                started = time.monotonic()
                print(f"{data}: {part}", file=sys.stderr, flush=True)
                finding = PARTS[part](place)
                verdict = f"{finding.verdict}: " if finding.verdict else ""
                print(f"{data}: {part} ({clock(started)}): {verdict}{finding.sentence}", flush=True)
    except KeyboardInterrupt:
        print("interrupted: the same command goes on where it was", file=sys.stderr)
        return 130
    except GeoaeError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    if not options.no_page:
        page = options.page or ROOT / "docs" / "study.md"
        missing = write_page(options.folder, options.size, page, PARTS)
        print(f"{page}" + (f"; not run yet: {', '.join(missing)}" if missing else ""))
    return 0


if __name__ == "__main__":
    sys.exit(main())
