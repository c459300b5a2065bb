"""Where the study works: a cube of each data set, and what its claims share."""

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from geoae.batches import parse_input
from geoae.cube import Cube
from geoae.ingestion import ingest
from geoae.location import Location
from geoae.plots import save_figure
from geoae.splits import split
from geoae.store import METADATA
from geoae.sweeps.running import Data, begin
from geoae.sweeps.sections import Sections, cut_sections
from geoae.sweeps.trials import Examine, Trial, mean_colour
from geoae.testing import write_us3d
from studies.sizes import Size

__all__ = ["DATA_SETS", "Finding", "Place", "judged", "prepare", "realdata"]

ROOT = Path(__file__).resolve().parents[1]

DATA_SETS = {"us3d": "the synthetic US3D", "autzen": "Autzen's photograph"}

PATCH = 256
"""Patches of the cubes in pixels: the largest section."""

FRACTIONS = (0.6, 0.3, 0.1)
"""More tiles are held out than usual: they, not patches, are what intervals are made of."""

PICTURE_DPI = 130

Progress = Callable[[str, int, int, Mapping[str, float]], None]


@dataclass(frozen=True)
class Finding:
    """What a part of the study found.

    Parameters
    ----------
    part, data
        Which part, on which data set.
    title
        Heading.
    claim
        What was claimed, and where; empty for a plain experiment.
    verdict
        ``confirmed``, ``refuted``, ``not decided``; empty without a claim.
    sentence
        What was found, in a sentence.
    table
        Markdown.
    notes
        What a reader must know.
    command
        What makes it.
    figure
        Name of its picture; empty without one.
    """

    part: str
    data: str
    title: str
    claim: str
    verdict: str
    sentence: str
    table: str
    notes: tuple[str, ...] = ()
    command: str = ""
    figure: str = ""


@dataclass(frozen=True)
class Place:
    """A data set with its cube, for the parts of the study.

    Parameters
    ----------
    folder
        Where the study works.
    data
        Name of the data set.
    size, size_name
        How large it is.
    progress
        Called as ``progress(stage, done, total, values)``.
    """

    folder: Path
    data: str
    size: Size
    size_name: str
    progress: Progress

    @property
    def cube(self) -> Path:
        """The cube of the data set; sizes that share their scenes share it."""
        return self.folder / f"{self.data}-{self.size.tiles}.zarr"

    def name(self, part: str) -> str:
        """Name a sweep of this size."""
        return f"{part}-{self.size_name}"

    def sections(
        self, side: int | None = None, patches: int | None = None
    ) -> tuple[Sections, Sections, tuple[str, ...]]:
        """Draw training and validation sections of the picture."""
        cube = Cube.open(self.cube)
        counts = (patches or self.size.patches, self.size.validation)
        channels = parse_input(cube, "rgb")
        return cut_sections(cube, channels, split="default", size=side or self.size.side, counts=counts)

    def rows(
        self,
        part: str,
        trials: Sequence[Trial],
        train: Sections,
        validation: Sections,
        labels: Sequence[str],
        examine: Examine | None = None,
    ) -> tuple[list[dict[str, Any]], tuple[str, ...], list[dict[str, Any]]]:
        """Make the trainings of a part; returns rows over seeds, notes, and every line."""
        data = Data("rgb", "default", len(train), len(validation))
        settings = {"side": train.patch_shape[0]}
        with begin(
            self.cube.as_posix(),
            part,
            self.name(part),
            data,
            settings,
            progress=self.progress,
            examine=examine,
            overwrite=True,
        ) as sweep:
            rows = sweep.rows(trials, train, validation, labels)
            return rows, sweep.notes, [dict(line) for line in sweep.lines]

    def guarded(self, verdict: str, rows: Sequence[Mapping[str, Any]], validation: Sections) -> str:
        """Return a verdict if the networks learned something; else that nothing is decided.

        A network that knows no more of a section than its mean colour says nothing about networks.
        """
        colour = mean_colour(validation)["mae"]
        networks = [row for row in rows if row.get("parameters") is not None]
        if all(row["mae"] < colour for row in networks):
            return verdict
        return "not decided: not all networks learned more than the mean colour"

    def command(self, part: str) -> str:
        """Return the command that makes a part."""
        return f"python -m studies --size {self.size_name} --data {self.data} --only {part}"

    def keep(self, finding: Finding, figure: Figure | None = None) -> Finding:
        """Write a finding and its figure where the page is made from."""
        target = self.folder / "findings" / self.size_name
        target.mkdir(parents=True, exist_ok=True)
        name = f"{finding.part}-{finding.data}"
        if figure is not None:
            save_figure(figure, target / f"{name}.png", dpi=PICTURE_DPI)
            finding = Finding(**{**asdict(finding), "figure": f"{name}.png"})
        Location.of(target).put(f"{name}.json", json.dumps(asdict(finding), indent=1).encode())
        return finding


def judged(low: float, high: float) -> str:
    """Judge a claim that a difference is negative by its interval.

    Examples
    --------
    >>> judged(-2, -1), judged(1, 2), judged(-1, 1), judged(float("nan"), 1)
    ('confirmed', 'refuted', 'not decided', 'not decided')
    """
    if high < 0:
        return "confirmed"
    return "refuted" if low > 0 else "not decided"


def realdata() -> Path:
    """Return the folder of the real rasters; it need not exist."""
    return Path(os.environ.get("GEOAE_REALDATA") or ROOT.parent / "shared" / "realdata")


def prepare(place: Place, say: Callable[[str], None]) -> bool:
    """Make the cube of a data set and its split; False if its rasters are not at hand.

    A cube that is complete is taken as it is: what was trained on it stays comparable.
    """
    if not Location.of(place.cube).exists(METADATA) and not _ingested(place, say):
        return False
    split(Cube.open(place.cube), fractions=FRACTIONS)
    return True


def _ingested(place: Place, say: Callable[[str], None]) -> bool:
    if place.data == "autzen":
        scenes = realdata() / "autzen"
        if not scenes.is_dir():
            say(f"autzen skipped: {scenes} is not there (GEOAE_REALDATA names the folder of real rasters)")
            return False
        catalog = ROOT / "tests" / "catalogs" / "autzen.yaml"
        ingest(scenes, catalog=str(catalog), out=place.cube, patch=PATCH)
    else:
        scenes = place.folder / f"us3d-{place.size.tiles}"
        say(f"writing {2 * place.size.tiles} synthetic tiles")
        write_us3d(scenes, tiles=place.size.tiles, views=1, size=512)
        ingest(scenes, out=place.cube, patch=PATCH)
    return True


def spread(values: Sequence[float]) -> str:
    """Write a mean with its deviation over seeds.

    Examples
    --------
    >>> spread([0.1, 0.3]), spread([0.5])
    ('0.200 ± 0.141', '0.500')
    """
    text = f"{np.mean(values):.3f}"
    return text if len(values) < 2 else f"{text} ± {np.std(values, ddof=1):.3f}"


def clock(started: float) -> str:
    """Say how long something took."""
    seconds = time.monotonic() - started
    return f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.0f} s"
