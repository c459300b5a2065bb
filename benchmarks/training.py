"""Training from a cube, beside the same loop over tensors in memory, and beside Keras.

    python -m benchmarks.training CUBE [--input rgb] [--keras keras-venv/bin/python]

Loops train one network on patches of one cube, each in a process of its own, in turns of a few steps:

bare
    a plain loop over tensors in memory, with torch's own loss;
memory
    geoae's over patches that it keeps in memory, as it does where they fit;
cube
    geoae's over patches that it reads from the cube all the time;
dataset
    the plain loop over `geoae_torch.CubeDataset`;
keras
    the same network and loss in Keras, see `benchmarks.keras_peer`.

Wall time and processor time of a step are printed: on a machine that others use, the latter compares better.
"""

import argparse
import json
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.measure import other_load
from benchmarks.training_side import LOOPS
from benchmarks.turns import Worker
from geoae.batches import CubePatches, fit_normalisation, parse_input, usable_rows
from geoae.cube import Cube

KERAS_PATCHES = 1024


def export(cube: str, channels: str, path: Path) -> None:
    """Write patches of a cube as one array ``(n, y, x, band)`` for the peer."""
    opened = Cube.open(cube)
    used = parse_input(opened, channels)
    rows = usable_rows(opened, used)[:KERAS_PATCHES]
    source = CubePatches(opened, used, fit_normalisation(opened, used, rows, "unit"), rows=rows)
    np.save(path, np.concatenate([batch.image.transpose(0, 2, 3, 1) for batch in source.batches(64)]))


def main() -> None:
    """Measure, and print a line of JSON for each loop: medians, and ratios to the first loop turn by turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("cube")
    parser.add_argument("--input", default="rgb")
    parser.add_argument("--latent-dim", type=int, default=1024)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=10, help="of a turn")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--loops", default="memory,cube,bare,dataset", help=f"of {', '.join(LOOPS)}")
    parser.add_argument("--keras", metavar="PYTHON", help="the Python of an environment with Keras")
    parser.add_argument("--bfloat16", action="store_true", help="geoae's loops compute in bfloat16")
    arguments = parser.parse_args()
    sizes = [
        f"--{name}={getattr(arguments, name.replace('-', '_'))}" for name in ("latent-dim", "batch", "steps")
    ]
    with ExitStack() as stack:
        side = [sys.executable, "-m", "benchmarks.training_side", arguments.cube]
        asked = [f"--input={arguments.input}", *sizes, *["--bfloat16"] * arguments.bfloat16]
        commands = {loop: [*side, loop, *asked] for loop in arguments.loops.split(",")}
        if arguments.keras is not None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            export(arguments.cube, arguments.input, folder / "images.npy")
            script = str(Path(__file__).with_name("keras_peer.py"))
            commands["keras"] = [arguments.keras, script, str(folder / "images.npy"), "--turns", *sizes]
        workers = {name: stack.enter_context(Worker(command)) for name, command in commands.items()}
        ask = other_load()
        turns = [{name: worker.turn() for name, worker in workers.items()} for _ in range(arguments.turns)]
        load = ask()
    first = next(iter(workers))
    for name in workers:
        row: dict[str, str | float] = {"loop": name}
        for what in ("seconds", "cpu"):
            row[f"{what}_ms"] = round(1e3 * median(turn[name][what] for turn in turns), 1)
            row[f"{what}_least_ms"] = round(1e3 * min(turn[name][what] for turn in turns), 1)
            row[f"{what}_by_{first}"] = round(
                median(turn[name][what] / turn[first][what] for turn in turns), 3
            )
        row["patches_per_second"] = round(arguments.batch / median(turn[name]["seconds"] for turn in turns))
        print(json.dumps(row))
    if load is not None:
        print(json.dumps({"cores_busy_with_these_and_others": round(load, 2)}))


if __name__ == "__main__":
    main()
