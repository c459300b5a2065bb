"""``python -m benchmarks``: one table of all figures in one run."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.figures import Figure, load_figures
from benchmarks.figures.ingestion import prepare, remove_fresh
from benchmarks.measure import Setting, cores, other_load, run_side
from benchmarks.scenes import write_scenes
from benchmarks.table import Result, insert, machine, markdown, row, to_json

US3D_VIEWS = 2_783
US3D_PATCHES = 178_112
"""Views of US3D, and the patches of 128 pixels in them."""


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small data, one repeat: a look, not a result")
    parser.add_argument("--scenes", type=int, help="how many scenes (default 64; 6 with --quick)")
    parser.add_argument("--size", type=int, help="side of a scene in pixels (default 1024; 512 with --quick)")
    parser.add_argument("--rows", type=int, help="patches for PCA; the peer holds them in memory twice")
    parser.add_argument("--latents", type=int, help="rows for k-means")
    parser.add_argument("--polygons", type=int, help="polygons to export")
    parser.add_argument("--views", type=int, help="scenes of the sparse data sets")
    parser.add_argument("--repeats", type=int, help="interleaved repeats (default 3; 1 with --quick)")
    parser.add_argument("--only", help="names of figures, with commas between them")
    parser.add_argument("--list", action="store_true", help="list the figures")
    parser.add_argument(
        "--folder", type=Path, default=Path("bench"), help="where data is kept (default bench)"
    )
    parser.add_argument("--into", type=Path, metavar="FILE", help="put the run into a document, too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all measurements to a file")
    return parser.parse_args(arguments)


def setting_of(options: argparse.Namespace) -> Setting:
    """Return the sizes that the options ask for."""

    def choose(given: int | None, usual: int, quick: int) -> int:
        return given if given is not None else quick if options.quick else usual

    return Setting(
        folder=options.folder,
        scenes=choose(options.scenes, 64, 6),
        size=choose(options.size, 1024, 512),
        rows=choose(options.rows, 4096, 64),
        latents=choose(options.latents, US3D_PATCHES, 20_000),
        polygons=choose(options.polygons, US3D_PATCHES, 20_000),
        views=choose(options.views, US3D_VIEWS, 64),
    )


def measure_figure(figure: Figure, setting: Setting, repeats: int) -> Result:
    """Measure both sides in turn, so that what slows the machine down for a while slows both."""
    missing = figure.missing()
    if missing is not None:
        return Result(figure, missing=missing)
    ours, other = [], []
    try:
        for _ in range(1 if figure.once else repeats):
            ours.append(run_side(figure.name, "geoae", setting))
            other.append(run_side(figure.name, "other", setting))
    except RuntimeError as error:  # the other figures are worth having
        _say(str(error))
        return Result(figure, missing=str(error).splitlines()[-1])
    return Result(figure, tuple(ours), tuple(other))


def main(arguments: list[str] | None = None) -> None:
    """Prepare data, measure, print."""
    options = parse(arguments)
    figures = load_figures()
    if options.list:
        for name, figure in figures.items():
            print(f"{name:16} {figure.title} | {figure.other} | {figure.goal_text}")
        return
    chosen = list(figures) if options.only is None else options.only.split(",")
    if unknown := [name for name in chosen if name not in figures]:
        sys.exit(f"no figure {unknown[0]!r}; there are {', '.join(figures)}")
    setting = setting_of(options)
    _say(f"preparing {setting.scenes} scenes of {setting.size} pixels in {setting.folder}")
    write_scenes(setting.source, setting.scenes, setting.size)
    remove_fresh(setting.folder)  # of a run that was ended
    prepare(setting)
    for prepare_more in dict.fromkeys(figures[name].prepare for name in chosen):
        prepare_more(setting)
    ask = other_load()
    results = []
    for name in chosen:
        _say(f"measuring {name}")
        results.append(measure_figure(figures[name], setting, options.repeats or (1 if options.quick else 3)))
    load = ask()
    remove_fresh(setting.folder)
    text = report(results, setting, load)
    print(text)
    if options.into is not None:
        document = options.into.read_text(encoding="utf-8")
        options.into.write_text(insert(document, text), encoding="utf-8")
    if options.json is not None:
        options.json.write_text(json.dumps(to_json(results, setting, load), indent=1), encoding="utf-8")


def report(results: Sequence[Result], setting: Setting, load: float | None) -> str:
    """Return the table, and below it what it was measured on and how to read it."""
    lines = [
        markdown([row(result, setting) for result in results]),
        "",
        machine(),
        f"{setting.scenes} scenes of {setting.size} x {setting.size} pixels. Each side ran in a process of",
        "its own, in turn; medians. Ratio: by the clock (of memory where the goal is one of memory);",
        "processor: by processor time, which other programs disturb less. Memory: peak resident set,",
        "with imports and, for a peer, its data.",
    ]
    if load is not None:
        lines.append(f"Other programs used {load:.2f} of {cores()} cores meanwhile.")
    return "\n".join(lines)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
