"""What the sweeps share: what they read, which trainings they make, and how they are written down."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from geoae.batches import parse_input
from geoae.cube import Cube
from geoae.encoder import Channel
from geoae.errors import UsageError
from geoae.fitting import Progress
from geoae.plots import save_figure
from geoae.splits import DEFAULT, ensure_split
from geoae.sweeps.ledger import Ledger, ledger
from geoae.sweeps.sections import Sections
from geoae.sweeps.tables import Column, SweepReport, as_csv, as_markdown, over_seeds
from geoae.sweeps.trials import Examine, Trial, run_trial

__all__ = ["Data", "Sweep", "begin"]

PICTURE_DPI = 200


@dataclass(frozen=True)
class Data:
    """What a sweep reads, and where it computes.

    Parameters
    ----------
    input
        Channels, see `geoae.batches.parse_input`; the picture if None.
    split
        Name of the split.
    patches, validation
        How many sections are trained on and measured on.
    device
        Where to compute, for encoders that can choose.
    """

    input: str | None = None
    split: str = DEFAULT
    patches: int = 3000
    validation: int = 200
    device: str = "auto"

    def __post_init__(self) -> None:
        if min(self.patches, self.validation) < 2:
            raise UsageError("a sweep needs at least 2 training and 2 validation sections")


@dataclass
class Sweep:
    """A sweep that is under way; made by `begin`. `lines` are those of the ledger that it asked for."""

    cube: Cube
    channels: tuple[Channel, ...]
    data: Data
    ledger: Ledger
    progress: Progress | None = None
    examine: Examine | None = None
    said: dict[str, list[str]] = field(default_factory=dict)
    made: int = 0
    lines: list[Mapping[str, Any]] = field(default_factory=list)

    def rows(
        self, trials: Sequence[Trial], train: Sections, validation: Sections, labels: Sequence[str]
    ) -> list[dict[str, Any]]:
        """Make trainings, and bring those that differ only in their seed together.

        Parameters
        ----------
        trials
            The trainings; seeds of one beside each other.
        train, validation
            The sections.
        labels
            What tells rows apart, besides the seed.

        Returns
        -------
        list of dict
            A row for each; those that could not be trained are named in the notes and left out.

        Raises
        ------
        UsageError
            If none could be trained: what the first one said.
        """
        found: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
        refused: dict[tuple[Any, ...], UsageError] = {}
        for trial in trials:
            key = tuple(trial.labels.get(name) for name in labels)
            if key in refused:
                continue  # another seed fits no better
            before = len(self.ledger)
            try:
                line = run_trial(
                    trial,
                    self.ledger,
                    train,
                    validation,
                    device=self.data.device,
                    progress=self.progress,
                    examine=self.examine,
                )
            except UsageError as error:
                # It does not fit these patches; the others may.
                refused[key] = error
                self.note(f"{trial.title}: {error.message}")
                continue
            self.made += len(self.ledger) - before
            for text in line["notes"]:
                self.note(text, str(trial.labels.get("network", trial.plugin)))
            self.lines.append(line)
            found.setdefault(key, []).append(line)
        if refused and not found:
            raise next(iter(refused.values()))
        return [over_seeds(lines, [*labels, "latent_dim"]) for lines in found.values()]

    def note(self, text: str, network: str = "") -> None:
        """Remember a sentence once, and of which networks it was said."""
        said = self.said.setdefault(text, [])
        if network and network not in said:
            said.append(network)

    @property
    def notes(self) -> tuple[str, ...]:
        """All sentences, each with the networks that it was said of."""
        named = {text: ", ".join(who[:3]) for text, who in self.said.items()}
        more = {text: f" and {len(who) - 3} more" for text, who in self.said.items() if len(who) > 3}
        return tuple(f"{who}{more.get(text, '')}: {text}" if who else text for text, who in named.items())

    def report(
        self, rows: Sequence[dict[str, Any]], columns: Sequence[Column], head: str, foot: str, figure: Figure
    ) -> SweepReport:
        """Write table and figure, and return them."""
        table = as_markdown(rows, columns)
        parts = [head, table, foot, *(f"- {text}" for text in self.notes)]
        self.ledger.write("table.md", "\n\n".join(parts) + "\n")
        self.ledger.write("table.csv", as_csv(rows))
        for ending in ("png", "pdf"):
            save_figure(figure, self.folder / f"figure.{ending}", dpi=PICTURE_DPI)
        return SweepReport(self.folder, tuple(rows), f"{table}\n\n{foot}", self.notes, self.made, figure)

    @property
    def folder(self) -> Path:
        """Where the sweep is written down."""
        return self.ledger.folder


@contextmanager
def begin(
    cube: Cube | str,
    kind: str,
    name: str,
    data: Data,
    settings: Mapping[str, Any],
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
    examine: Examine | None = None,
) -> Iterator[Sweep]:
    """Open a sweep: nobody else writes in it meanwhile.

    Parameters
    ----------
    cube
        The cube, or its path.
    kind, name
        Which sweep, and what it is called.
    data
        What it reads.
    settings
        What else all its trainings share.
    overwrite
        Replace a sweep of that name that was made otherwise.
    progress, examine
        See `geoae.sweeps.trials.run_trial`.
    """
    cube = Cube.open(cube)
    channels = parse_input(cube, data.input)
    path = ensure_split(cube, data.split)
    shared = {
        "sweep": kind,
        "cube": cube.cube_id,
        "split": cube.layer_digest(path),
        "input": [str(c) for c in channels],
        "patches": data.patches,
        "validation": data.validation,
        **settings,
    }
    with ledger(cube, name, shared, overwrite=overwrite) as book:
        yield Sweep(cube, channels, data, book, progress, examine)
