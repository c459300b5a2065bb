"""Find the examples of a Markdown page that are meant to be run, and run them as a reader would.

A block of ``bash`` or ``python`` in a page is preceded by a comment that says what tests do with it:
``<!-- run -->``, or ``<!-- not run: why -->``. The blocks of a page are run in order in one folder.
"""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

RUN = "run"
FENCE = re.compile(r"^```\s*(\{?[\w-]*\}?)")
MARK = re.compile(r"^<!--\s*(run|not run:\s*\S.*?)\s*-->$")
RUNNABLE = ("bash", "python")


class Block(NamedTuple):
    """A fenced block: its language, its text, the line it begins at, its mark ("run", "not run: ...", "")."""

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
    """Run the marked blocks of a page in a folder; AssertionError shows the first that fails.

    ``scripts`` is the folder of programs to use, by default that of the running interpreter.
    Returns the number of blocks run.
    """
    variables = environment(scripts or Path(sys.executable).parent)
    blocks = [block for block in blocks_of(page.read_text(encoding="utf-8")) if block.mark == RUN]
    for block in blocks:
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
    return len(blocks)
