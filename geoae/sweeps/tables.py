"""Tables of sweeps: seeds brought together, differences judged, written for people and for programs."""

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from geoae.sweeps.statistics import FEWEST_GROUPS, paired_interval

__all__ = ["Column", "SweepReport", "against", "as_csv", "as_markdown", "over_seeds"]

_MEASURES = (
    "parameters",
    "mae",
    "mse",
    "loss",
    "kl",
    "active_units",
    "participation_ratio",
    "seconds",
    "processor_seconds",
    "patches_per_second",
)


@dataclass(frozen=True)
class SweepReport:
    """What a sweep found.

    Parameters
    ----------
    folder
        Where its ledger, its tables and its figure lie.
    rows
        The table: values by name; those that end in ``_sd`` are deviations over seeds.
    text
        The table for people, in Markdown.
    notes
        What a user must read.
    made
        Trainings that were made now; the others were there.
    figure
        As it was drawn.
    """

    folder: Path
    rows: tuple[Mapping[str, Any], ...]
    text: str
    notes: tuple[str, ...] = ()
    made: int = 0
    figure: Figure | None = None


@dataclass(frozen=True)
class Column:
    """A column of a table for people: a title, the value's name, and how many digits count."""

    title: str
    name: str
    digits: int = 3


def over_seeds(records: Sequence[Mapping[str, Any]], labels: Iterable[str]) -> dict[str, Any]:
    """Bring the lines of one training with several seeds together.

    Parameters
    ----------
    records
        Lines of the ledger that differ in their seed only.
    labels
        Names of values that they share.

    Returns
    -------
    dict
        Labels, ``seeds``, the mean of each measure, and its deviation where there are two seeds or more.
        ``patch_mae`` and ``patch_mse`` are the means over seeds for each section.

    Examples
    --------
    >>> row = over_seeds([{"network": "a", "mae": 1.0}, {"network": "a", "mae": 3.0}], ["network"])
    >>> row["seeds"], row["mae"], round(row["mae_sd"], 3)
    (2, 2.0, 1.414)
    """
    row: dict[str, Any] = {name: records[0].get(name) for name in labels} | {"seeds": len(records)}
    for name in _MEASURES:
        values = [record[name] for record in records if record.get(name) is not None]
        if values:
            row[name] = float(np.mean(values))
            if len(values) > 1:
                row[f"{name}_sd"] = float(np.std(values, ddof=1))
    for name in ("patch_mae", "patch_mse"):
        if all(name in record for record in records):
            row[name] = np.mean([record[name] for record in records], axis=0).tolist()
    return row


def against(
    row: Mapping[str, Any], other: Mapping[str, Any], group: npt.NDArray[np.int64], measure: str = "mae"
) -> dict[str, Any]:
    """Compare two rows section by section.

    Parameters
    ----------
    row, other
        Rows with ``patch_<measure>``, of the same sections.
    group
        Group of each section.
    measure
        ``mae`` or ``mse``.

    Returns
    -------
    dict
        ``<measure>_difference`` (row less other), ``_low`` and ``_high`` of its 95 % interval over groups.
    """
    name = f"patch_{measure}"
    difference = np.asarray(row[name]) - np.asarray(other[name])
    mean, low, high = paired_interval(difference, group)
    return {f"{measure}_difference": mean, f"{measure}_low": low, f"{measure}_high": high}


def _shown(value: Any, digits: int) -> str:
    """Write a value with so many digits that count.

    Examples
    --------
    >>> _shown(0.0123456, 3), _shown(25188099.0, 3), _shown(None, 3), _shown(12.0, 3), _shown("a", 3)
    ('0.0123', '25,188,099', '-', '12.0', 'a')
    """
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "-"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int) or abs(value) >= 10**digits:
        return f"{round(value):,}"
    if value == 0:
        return "0"
    places = max(digits - 1 - math.floor(math.log10(abs(value))), 0)
    return f"{value:.{places}f}"


def as_markdown(rows: Sequence[Mapping[str, Any]], columns: Sequence[Column]) -> str:
    """Write a table for people; deviations over seeds follow their means.

    Examples
    --------
    >>> columns = [Column("net", "n"), Column("MAE", "mae")]
    >>> print(as_markdown([{"n": "a", "mae": 0.05, "mae_sd": 0.001}], columns))
    | net | MAE |
    |---|---:|
    | a | 0.0500 ± 0.0010 |
    """
    lines = ["| " + " | ".join(c.title for c in columns) + " |"]
    textual = [any(isinstance(row.get(c.name), str) for row in rows) for c in columns]
    lines.append("|" + "|".join("---" if text else "---:" for text in textual) + "|")
    for row in rows:
        cells = []
        for column in columns:
            cell = _shown(row.get(column.name), column.digits)
            spread = row.get(f"{column.name}_sd")
            if spread is not None and cell != "-" and column.name != "parameters":
                decimals = len(cell.partition(".")[2])
                cell += f" ± {spread:.{decimals}f}"
            low, high = (row.get(column.name.replace("_difference", end)) for end in ("_low", "_high"))
            if column.name.endswith("_difference") and low is not None and math.isfinite(low):
                cell = f"{row[column.name]:+.4f} [{low:+.4f}, {high:+.4f}]"
            cells.append(cell)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Write all values but those of single sections, for programs."""
    names = [n for n in dict.fromkeys(k for row in rows for k in row) if not n.startswith("patch_m")]
    text = io.StringIO()
    writer = csv.DictWriter(text, names, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def judged(groups: int) -> str:
    """Say what the intervals of a table are."""
    few = f", which are few (below {FEWEST_GROUPS})" if groups < FEWEST_GROUPS else ""
    return (
        f"Intervals are 95 % of a bootstrap that draws whole tiles or blocks: {groups} of them{few}. "
        "± is the deviation over seeds."
    )
