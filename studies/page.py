"""The page of the study: findings as Markdown, pictures beside it."""

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from studies.place import DATA_SETS
from studies.sizes import SIZES

__all__ = ["BEGIN", "END", "largest", "write_page"]

BEGIN = "<!-- the findings: written by `make study`, do not edit below -->"
END = "<!-- the end of the findings -->"

MAX_BYTES = 100_000
"""Of a picture of the page."""


def largest(folder: Path) -> str | None:
    """Return the size of which most findings are at hand, the larger size where they are as many."""
    counts = {name: len(list((folder / "findings" / name).glob("*.json"))) for name in SIZES}
    best = max(reversed(SIZES), key=lambda name: counts[name])
    return best if counts[best] else None


def write_page(folder: Path, size: str, page: Path, parts: Iterable[str]) -> list[str]:
    """Write the findings of a size between the marks of a page, and their pictures beside it.

    Parameters
    ----------
    folder
        Where the study worked.
    size
        Which size.
    page
        The page; what stands outside of its marks is kept.
    parts
        All parts, in the order of the page.

    Returns
    -------
    list of str
        Parts that have no finding yet.
    """
    found = folder / "findings" / size
    pictures = page.parent / page.stem
    pictures.mkdir(exist_ok=True)
    lines: list[str] = []
    verdicts: list[str] = []
    missing: list[str] = []
    for part in parts:
        said = [
            json.loads(path.read_text("utf-8"))
            for data in DATA_SETS
            if (path := found / f"{part}-{data}.json").exists()
        ]
        if not said:
            missing.append(part)
            continue
        title = said[0]["title"]
        lines += [f"### {title}", ""]
        if said[0]["claim"]:
            lines += [f"> {said[0]['claim']}", ""]
        for finding in said:
            lines += _section(finding, found, pictures)
            if finding["claim"]:
                verdicts.append(
                    f"| [{_short(title)}](#{_anchor(title)}) | {DATA_SETS[finding['data']]} "
                    f"| {finding['verdict']} |"
                )
    head = [
        "",
        f"Size of this run: `{size}`. {_size_text(size)}",
        "",
    ]
    if missing:
        head += [f"Not run yet at this size: {', '.join(missing)}.", ""]
    if verdicts:
        head += ["| claim | data | verdict |", "|---|---|---|", *verdicts, ""]
    text = page.read_text("utf-8") if page.exists() else f"# The study\n\n{BEGIN}\n{END}\n"
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    page.write_text(before + BEGIN + "\n" + "\n".join([*head, *lines]) + END + after, "utf-8")
    return missing


def _size_text(size: str) -> str:
    s = SIZES[size]
    return (
        f"Networks of the tables have sections of 128 x 128 pixels, at most {s.patches} to train on and "
        f"{s.validation} to measure, {s.thesis_epochs} epochs as printed and {s.network_epochs} otherwise, "
        f"{s.network_seeds} seed{'s' if s.network_seeds > 1 else ''}; all else has sections of "
        f"{s.side} x {s.side} pixels, {s.steps} steps of 32 sections and {s.seeds} seeds."
    )


def _section(finding: Mapping[str, Any], found: Path, pictures: Path) -> list[str]:
    lines = [f"**{DATA_SETS[finding['data']][0].upper()}{DATA_SETS[finding['data']][1:]}**", ""]
    verdict = f"*{finding['verdict'][:1].upper()}{finding['verdict'][1:]}.* " if finding["verdict"] else ""
    lines += [verdict + finding["sentence"], "", finding["table"], ""]
    if finding["figure"]:
        shutil.copyfile(found / finding["figure"], pictures / finding["figure"])
        _shrink(pictures / finding["figure"])
        lines += [
            f"```{{image}} {pictures.name}/{finding['figure']}",
            f":alt: {finding['title']}, {DATA_SETS[finding['data']]}.",
            ":width: 100%",
            "```",
            "",
        ]
    lines += [f"- {note}" for note in finding["notes"]]
    return [*lines, *([""] if finding["notes"] else []), f"`{finding['command']}`", ""]


def _shrink(path: Path) -> None:
    """Store a picture with as few colours as its lines need."""
    from PIL import Image  # put off: only pages need it

    picture = Image.open(path).convert("RGB")
    picture.quantize(64, Image.Quantize.MAXCOVERAGE).save(path, optimize=True)
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"{path} has {path.stat().st_size} bytes, more than {MAX_BYTES}")


def _short(title: str) -> str:
    return title.removeprefix("Claim ")


def _anchor(title: str) -> str:
    """Return the anchor that a heading gets.

    Examples
    --------
    >>> _anchor("Claim C2: does SELU learn faster?")
    'claim-c2-does-selu-learn-faster'
    """
    kept = "".join(c for c in title.lower() if c.isalnum() or c in " -")
    return kept.replace(" ", "-")
