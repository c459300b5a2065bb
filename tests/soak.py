"""Kill geoae at random, many times, and prove that nothing is damaged: ``make soak``.

Each command is run on copies of one small folder. It is killed with SIGKILL, half of the time after a
random time within what it takes, half of the time right before a random change of the file system. Two
times out of three its resumption is killed, too, and so on. After each kill everything that was there before
must be there, whole; and once the command is let through, every byte must be that of a run nobody disturbed.
"""

import argparse
import hashlib
import math
import random
import shutil
import sqlite3
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyogrio
from cube_scenes import tree
from killing import Job, Killer, Outcome

from geoae.cube import Cube
from geoae.errors import GeoaeError, IncompleteError, NotACubeError
from geoae.location import is_partial
from geoae.models import model_lock
from geoae.schema import LAYER_KINDS
from geoae.verification import verify

CUBE, WORK, MODELS = "us3d.zarr", "us3d.zarr.work", "us3d.zarr.models"

ADDED_TO = "town.gpkg"
"""A GeoPackage with somebody else's layer."""

Tree = dict[str, str]


@dataclass(frozen=True)
class Command:
    """A command to be killed: its words, and which of the prepared folders it begins in."""

    words: tuple[str, ...]
    start: str = "made"
    cube: str = "kept"
    """What becomes of the cube: ``made`` from nothing, ``replaced`` whole, or ``kept``."""


_INGEST = ("ingest", "../us3d", "--quiet", "--workers", "2", "--patch")
_ENCODE = ("encode", "--plugin", "pca", "--quiet", "--latent-dim")
_CLUSTER = ("cluster", "--latents", "pca", "--k", "5", "--name")

_EXPORT = ("export", "patches", "--quiet")

COMMANDS = {
    "ingest": Command((*_INGEST, "16"), "empty", "made"),
    "ingest --overwrite": Command((*_INGEST, "32", "--overwrite"), cube="replaced"),
    "encode": Command((*_ENCODE, "6", "--name", "fresh")),
    "encode --overwrite": Command((*_ENCODE, "6", "--name", "pca", "--overwrite")),
    "summarize": Command(("summarize", "--classes", "dfc2019", "--quiet")),
    "summarize --overwrite": Command(("summarize", "--classes", "thesis", "--quiet", "--overwrite")),
    "cluster": Command((*_CLUSTER, "fresh")),
    "cluster --overwrite": Command((*_CLUSTER, "pca", "--overwrite")),
    "export": Command((*_EXPORT, "new.gpkg")),
    "export --overwrite": Command((*_EXPORT, "map.gpkg", "--overwrite")),
    "export --add": Command((*_EXPORT, ADDED_TO, "--add")),
}


@dataclass
class Score:
    """What became of one command."""

    changes: int = 0
    seconds: float = 0
    by_time: int = 0
    by_change: int = 0
    resumed: int = 0
    damages: list[str] = field(default_factory=list)

    @property
    def kills(self) -> int:
        """How often it was killed."""
        return self.by_time + self.by_change


def prepare(world: Path, killer: Killer) -> None:
    """Write scenes, an empty folder, and one with a cube, layers, a model and an exported map."""
    from geoae.testing import write_us3d

    write_us3d(world / "us3d", tiles=2, views=1, size=64)
    for name in ("empty", "made"):
        (world / name).mkdir()
        (world / name / "notes.txt").write_text("not geoae's\n")
    made = str(world / "made")
    roads = pa.table({"lanes": [2, 4], "geometry": [struct.pack("<BIdd", 1, 1, x, 3.0) for x in (1.0, 2.0)]})
    pyogrio.write_arrow(
        roads, f"{made}/{ADDED_TO}", layer="roads", driver="GPKG", geometry_name="geometry",
        geometry_type="Point", crs="EPSG:32617",
    )  # fmt: skip
    for words in (
        COMMANDS["ingest"].words,
        (*_ENCODE, "4"),
        ("summarize", "--classes", "thesis", "--quiet"),
        ("cluster", "--latents", "pca", "--k", "3"),
        (*_EXPORT, "map.gpkg", "--city", "JAX"),
    ):
        _let_through(killer, Job(made, words))


def _let_through(killer: Killer, job: Job) -> Outcome:
    (outcome,) = killer.run([job])
    if outcome.code:
        sys.exit(f"geoae {' '.join(job.arguments)} ended with {outcome.code}:\n{outcome.errors}")
    return outcome


def results(folder: Path) -> Tree:
    """Return the digests of all files but those in the work folder; of what is added to, its content's."""
    files = {name: digest for name, digest in tree(folder).items() if not name.startswith(f"{WORK}/")}
    if ADDED_TO in files:
        files[ADDED_TO] = content(folder / ADDED_TO)
    return files


_NUMBERS = {
    "gpkg_metadata": ("id",),
    "gpkg_metadata_reference": ("md_file_id",),
    "layer_styles": ("id", "update_time"),
}


def content(path: Path) -> str:
    """Return the digest of all rows of a GeoPackage but the numbers and times that SQLite gives them.

    Who adds a second time replaces its layers by equal ones, whose styles and metadata get new numbers.
    """
    rows = []
    with closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as database:
        tables = database.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'").fetchall()
        for name, sql in tables:
            if name.startswith(("rtree_", "sqlite_")):
                continue
            columns = [row[1] for row in database.execute(f'PRAGMA table_info("{name}")')]
            kept = ", ".join(f'"{column}"' for column in columns if column not in _NUMBERS.get(name, ()))
            rows += [repr((name, sql))]
            rows += [repr((name, row)) for row in database.execute(f'SELECT {kept} FROM "{name}"')]
    return hashlib.sha256("\n".join(sorted(rows)).encode()).hexdigest()


def units(files: Tree) -> dict[str, Tree]:
    """Sort files into what is old or new as a whole: a layer, a model, the cube's own arrays, a file."""
    sorted_files: dict[str, Tree] = {}
    for name, digest in files.items():
        parts = name.split("/")
        length = len(parts)
        if parts[0] == MODELS:
            length = 2
        elif parts[0] == CUBE and parts[1] in LAYER_KINDS:
            length = min(3, length)
        elif parts[0] == CUBE and parts[1] != "zarr.json":
            length = 1
        sorted_files.setdefault("/".join(parts[:length]), {})[name] = digest
    return sorted_files


def harm(command: Command, folder: Path, before: Tree, after: Tree) -> Iterator[str]:
    """Tell what is not as it should be after a kill."""
    cube = folder / CUBE
    if command.cube == "made":
        if not (cube / "zarr.json").exists():
            try:
                Cube.open(cube)
                yield "a cube without its root was opened"
            except (IncompleteError, NotACubeError):
                pass
            now = {name: d for name, d in results(folder).items() if not name.startswith(f"{CUBE}/")}
            if now != {name: d for name, d in after.items() if not name.startswith(f"{CUBE}/")}:
                yield "files beside the cube have changed"
        elif results(folder) != after:
            yield "a complete cube is not what it should be"
        return
    try:
        opened = Cube.open(cube)  # as any command does: it ends what the kill has cut in two
        for name in ("pca", "fresh") if command.cube == "kept" else ():
            with model_lock(opened, name):
                pass
        report = verify(opened, workers=1)
    except GeoaeError as error:
        yield f"the cube cannot be read: {error}"
        return
    yield from (finding.what for finding in report.findings if finding.failure)
    yield from _compare(command, results(folder), before, after)


def _compare(command: Command, files: Tree, before: Tree, after: Tree) -> Iterator[str]:
    if command.cube == "replaced":
        if files not in (before, after):
            yield "neither the old cube nor the new one"
        return
    now, old, new = units(files), units(before), units(after)
    for name in sorted({*now, *old}):
        if name == f"{CUBE}/zarr.json":
            continue  # it lists the layers that there are: verification has compared them
        if name in old:
            if now.get(name) not in (old[name], new.get(name)):
                yield f"{name} is neither what it was nor what it should become"
        elif name in new:
            whole = now[name] == new[name]
            if not whole and (not name.startswith(f"{CUBE}/") or f"{name}/zarr.json" in now[name]):
                yield f"{name} can be seen and is not complete"
        elif not _is_debris(name):
            yield f"{name} has appeared"


def _is_debris(name: str) -> bool:
    """Say whether a kill may leave this until the same command is run again."""
    return is_partial(name) or name.startswith((f"{MODELS}/.", ".geoae-export-"))


def remains(folder: Path) -> list[str]:
    """Return what a finished command must not leave behind."""
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*")]
    begun = {f"{WORK}/{name}" for name in ("next", "next.zarr", "replaced", "swap.json")}
    return [
        name
        for name in names
        if is_partial(name) or name in begun or name.endswith("/begun.json") or "/." in f"/{name}"
    ]


def life(
    command: Command,
    start: Path,
    folder: Path,
    after: Tree,
    score: Score,
    killer: Killer,
    chance: random.Random,
    most: int,
) -> None:
    """Kill a command at least once, perhaps its resumptions too, and let it through in the end."""
    shutil.copytree(start, folder)
    before, history = results(start), []

    def damaged(what: str) -> None:
        score.damages.append(f"{', '.join(history)}: {what}")

    while len(history) < most:
        if chance.random() < 0.5:
            job = Job(str(folder), command.words, delay=chance.uniform(0.001, score.seconds))
            history.append(f"killed after {job.delay:.4f} s")
        else:
            job = Job(str(folder), command.words, moment=chance.randint(1, score.changes))
            history.append(f"killed before change {job.moment}")
        (outcome,) = killer.run([job])
        if outcome.code != -9:  # it was faster; what is it worth?
            history.pop()
            break
        score.by_time += bool(job.delay)
        score.by_change += bool(job.moment)
        for what in harm(command, folder, before, after):
            damaged(what)
        if chance.random() < 1 / 3:
            break
    if not history and outcome.code == 0 and results(folder) == after:
        return
    (outcome,) = killer.run([Job(str(folder), command.words)])
    refused = command.words[0] == "export" and "--overwrite" not in command.words and outcome.code == 2
    if outcome.code and not refused:  # the killed run may have put the file in its place already
        damaged(f"the same command ends with {outcome.code}: {outcome.errors.strip()}")
    score.resumed += 1
    now = results(folder)
    if now != after:
        differ = sorted(name for name in {*now, *after} if now.get(name) != after.get(name))
        damaged(f"not the bytes of an undisturbed run: {', '.join(differ[:5])}")
    for name in remains(folder):
        damaged(f"{name} was left behind")


def soak(
    kills: int,
    seed: int,
    names: Sequence[str] = tuple(COMMANDS),
    *,
    seconds: float = math.inf,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Score]:
    """Kill each command its share of times and count.

    Parameters
    ----------
    kills
        How many in all.
    seed
        Of all random moments.
    names
        Which of `COMMANDS`.
    seconds
        Begin nothing new after so long.
    say
        Called with what was damaged, and with what was done.

    Returns
    -------
    dict of str to Score
    """
    scores = {name: Score() for name in names}
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="geoae-soak-") as temporary, Killer() as killer:
        world = Path(temporary)
        prepare(world, killer)
        sources = tree(world / "us3d")
        after: dict[str, Tree] = {}
        chance, shares = {}, {}
        for number, (name, score) in enumerate(scores.items()):
            shutil.copytree(world / COMMANDS[name].start, world / "whole")
            outcome = _let_through(killer, Job(str(world / "whole"), COMMANDS[name].words))
            score.changes, score.seconds = outcome.changes, outcome.seconds
            after[name] = results(world / "whole")
            chance[name] = random.Random(f"{seed} {name}")
            shares[name] = kills * (number + 1) // len(names) - kills * number // len(names)
            shutil.rmtree(world / "whole")
        # In turn, so that a soak that runs out of time has done equally much to all.
        while waiting := [name for name, score in scores.items() if score.kills < shares[name]]:
            for name in waiting:
                if time.monotonic() - begun > seconds:
                    break
                score, known = scores[name], len(scores[name].damages)
                left = shares[name] - score.kills
                start = world / COMMANDS[name].start
                life(COMMANDS[name], start, world / "killed", after[name], score, killer, chance[name], left)
                for what in score.damages[known:]:
                    say(f"DAMAGE {name}: {what}")
                shutil.rmtree(world / "killed")
            else:
                say(
                    f"{sum(score.kills for score in scores.values())} kills, {time.monotonic() - begun:.0f} s"
                )
                continue
            break
        if tree(world / "us3d") != sources:
            scores[names[0]].damages.append("the source folder has changed")
    return scores


def table(scores: dict[str, Score]) -> str:
    """Return the figures as Markdown."""
    lines = [
        "| command | changes | kills at a change | kills by time | runs resumed | damaged |",
        "|---|---|---|---|---|---|",
    ]
    for name, score in scores.items():
        lines.append(
            f"| `{name}` | {score.changes} | {score.by_change} | {score.by_time} "
            f"| {score.resumed} | {len(score.damages)} |"
        )
    total = [
        sum(score.by_change for score in scores.values()),
        sum(score.by_time for score in scores.values()),
        sum(score.resumed for score in scores.values()),
        sum(len(score.damages) for score in scores.values()),
    ]
    return "\n".join([*lines, f"| all | | {' | '.join(map(str, total))} |"])


def main() -> None:
    """Soak as the command line says; exit with 1 if anything was damaged."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=1000, help="how many in all (default 1000)")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments (default 0)")
    parser.add_argument("--seconds", type=float, default=math.inf, help="begin nothing new after so long")
    parser.add_argument("--only", help="names of commands, with commas between them")
    options = parser.parse_args()
    names = options.only.split(",") if options.only else list(COMMANDS)
    if unknown := [name for name in names if name not in COMMANDS]:
        sys.exit(f"no command {unknown[0]!r}; there are {', '.join(COMMANDS)}")
    scores = soak(
        options.kills,
        options.seed,
        names,
        seconds=options.seconds,
        say=lambda text: print(text, file=sys.stderr, flush=True),
    )
    print(table(scores))
    sys.exit(any(score.damages for score in scores.values()))


if __name__ == "__main__":
    main()
