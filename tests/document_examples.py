"""Find the examples of a Markdown page that are meant to be run, and run them as a reader would.

A block of ``bash`` or ``python`` in a page is preceded by a comment that says what tests do with it:
``<!-- run -->``, or ``<!-- not run: why -->``. The blocks of a page are run in order in one folder.

A block of ``text`` after one that is run is preceded by ``<!-- output -->`` if it shows what that one
prints, and by ``<!-- not output: why -->`` if it does not. Shown lines are consecutive lines of what was
printed; ``...`` stands for any text in a line, or alone for any lines. The folder of the run is left out,
and how much of the disk is free is not compared, nor are blank lines and the width of gaps. Numbers may
differ by `TOLERANCE`: what is learned is not the same to the last bit on every processor.
"""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

RUN = "run"
OUTPUT = "output"
FENCE = re.compile(r"^```\s*(\{?[\w-]*\}?)")
MARK = re.compile(r"^<!--\s*(run|output|not (?:run|output):\s*\S.*?)\s*-->$")
RUNNABLE = ("bash", "python")
FREE = re.compile(r"[\d.]+ [kMGT]?B free")
NUMBER = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?")
TOLERANCE = 0.02


class Block(NamedTuple):
    """A fenced block: its language, its text, the line it begins at, its mark or ""."""

    language: str
    text: str
    line: int
    mark: str


def blocks_of(markdown: str) -> list[Block]:
    """Every fenced block of a page; ValueError for a mark without a block and for a fence left open."""
    blocks: list[Block] = []
    mark, language, start = "", None, 0
    body: list[str] = []
    for number, line in enumerate(markdown.splitlines(), start=1):
        if language is None:
            if match := FENCE.match(line):
                language, start, body = match.group(1), number, []
            elif match := MARK.match(line.strip()):
                mark = match.group(1)
            elif line.strip() and mark:
                raise ValueError(f"line {number}: the mark {mark!r} is not followed by a block")
        elif line.startswith("```"):
            blocks.append(Block(language, "\n".join(body) + "\n", start, mark))
            mark, language = "", None
        else:
            body.append(line)
    if language is not None or mark:
        raise ValueError(f"line {start}: a block or a mark is left open")
    return blocks


def environment(scripts: Path) -> dict[str, str]:
    """A shell's environment in which the programs of one Python environment come first."""
    hidden = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "GEOAE_CUBE", "GEOAE_REALDATA")
    variables = {name: value for name, value in os.environ.items() if name not in hidden}
    return variables | {"PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}", "MPLBACKEND": "Agg"}


def run_page(page: Path, folder: Path, scripts: Path | None = None) -> int:
    """Run the marked blocks of a page in a folder, and compare what they print with what the page shows.

    AssertionError shows the first block that fails, or the first line that was not printed.

    ``scripts`` is the folder of programs to use, by default that of the running interpreter.
    Returns the number of blocks run.
    """
    variables = environment(scripts or Path(sys.executable).parent)
    run, printed = 0, ""
    for block in blocks_of(page.read_text(encoding="utf-8")):
        if block.mark == OUTPUT:
            missing = unprinted(block.text, printed)
            assert missing is None, (
                f"{page.name}, line {block.line}: shown but not printed there:\n{missing}\n"
                f"--- printed\n{printed[-4000:]}"
            )
        if block.mark != RUN:
            continue
        command = {"bash": ["bash", "-euo", "pipefail", "-c"], "python": ["python", "-c"]}[block.language]
        done = subprocess.run(
            [*command, block.text],
            cwd=folder,
            env=variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, (
            f"{page.name}, line {block.line}: exit code {done.returncode}\n{block.text}\n"
            f"--- stdout\n{done.stdout[-2000:]}\n--- stderr\n{done.stderr[-4000:]}"
        )
        # Remarks are printed before results; a reader in an empty folder sees paths in it without it.
        run, printed = run + 1, (done.stderr + done.stdout).replace(f"{folder}{os.sep}", "")
    return run


def lines_of(text: str) -> list[str]:
    """The lines to compare."""
    return [line.rstrip() for line in FREE.sub("... free", text).splitlines() if line.strip()]


def same(shown: str, printed: str) -> bool:
    """Whether a line shows a printed one; ``...`` in it stands for anything."""
    pattern = ".*".join(
        f"({NUMBER.pattern})".join(r"\s+".join(map(re.escape, re.split(r"\s+", text))) for text in parts)
        for parts in (NUMBER.split(piece) for piece in shown.split("..."))
    )
    found = re.fullmatch(pattern, printed)
    numbers = [number for piece in shown.split("...") for number in NUMBER.findall(piece)]
    return found is not None and all(map(close, numbers, found.groups()))


def close(shown: str, printed: str) -> bool:
    """Whether two numbers are nearly the same: whole ones within `TOLERANCE`, others a last digit more."""
    first, second = (float(number.replace(",", "")) for number in (shown, printed))
    _, point, digits = shown.partition(".")
    return abs(first - second) <= TOLERANCE * abs(first) + (10.0 ** -len(digits) if point else 0) * 1.001


def unprinted(shown: str, printed: str) -> str | None:
    """The first shown line that was not printed where the page has it; None if the page tells the truth."""
    wanted, there = lines_of(shown), lines_of(printed)
    place, anywhere = 0, True  # the page may begin in the middle
    for line in wanted:
        if line.strip() == "...":
            anywhere = True
            continue
        last = len(there) if anywhere else min(place + 1, len(there))
        found = next((n for n in range(place, last) if same(line, there[n])), None)
        if found is None:
            return line
        place, anywhere = found + 1, False
    return None
