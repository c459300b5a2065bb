"""Training from a cube, beside the same loop over tensors in memory.

    python -m benchmarks.training CUBE [--input rgb] [--steps 20] [--repeats 3]

Three loops train one network on the same patches, in turn: a bare loop over tensors; geoae's over patches
that it keeps in memory, as it does where they fit; and geoae's over patches that it reads from the cube all
the time. Wall time and processor time are printed: on a machine that others use, only the latter compares.
"""

import argparse
import json
import time
from typing import Any

import numpy as np
import torch

from benchmarks.gpu import bare, network_of, ours
from geoae.batches import CubePatches, fit_normalisation, parse_input, usable_rows
from geoae.cli.memory import keep_freed_memory
from geoae.cube import Cube
from geoae_torch.feed import Feed, ResidentFeed, StreamFeed

CPU = torch.device("cpu")


def main() -> None:
    """Measure, and print a line of JSON for each loop and repeat, then the ratios of the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cube")
    parser.add_argument("--input", default="rgb")
    parser.add_argument("--preset", default="thesis-a8")
    parser.add_argument("--latent-dim", type=int, default=1024)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--malloc", action=argparse.BooleanOptionalAction, default=True)
    arguments = parser.parse_args()
    if arguments.malloc:
        keep_freed_memory()
    cube = Cube.open(arguments.cube)
    channels = parse_input(cube, arguments.input)
    rows = usable_rows(cube, channels)
    scale = fit_normalisation(cube, channels, rows, "unit")
    source = CubePatches(cube, channels, scale, rows=rows)
    resident = ResidentFeed(source, CPU)
    store = resident._image
    assert store is not None
    feeds: dict[str, Feed] = {"kept in memory": resident, "read from the cube": StreamFeed(source, CPU)}
    seconds: dict[str, list[tuple[float, float]]] = {}
    for _ in range(arguments.repeats):
        for name in ("bare loop", *feeds):
            network = network_of(arguments.preset, arguments.latent_dim, len(channels), CPU)
            before = time.process_time()
            if name == "bare loop":
                rate = bare(network, store._images, arguments.batch, arguments.steps, half=False)
            else:
                rate = ours(network, feeds[name], arguments.batch, arguments.steps, CPU, augment=False)
            # Both make ten steps to warm up.
            used = (time.process_time() - before) / (arguments.steps + min(10, arguments.steps))
            seconds.setdefault(name, []).append((arguments.batch / rate, used))
            print(
                json.dumps({"loop": name, "patches_per_second": round(rate), "cpu_ms": round(1e3 * used)}),
                flush=True,
            )
    medians: dict[str, Any] = {name: np.median(values, axis=0) for name, values in seconds.items()}
    for name, (wall, used) in medians.items():
        base = medians["bare loop"]
        print(json.dumps({"loop": name, "wall": round(wall / base[0], 3), "cpu": round(used / base[1], 3)}))


if __name__ == "__main__":
    main()
