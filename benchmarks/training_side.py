"""One loop of `benchmarks.training`, in a process of its own: geoae's, or a bare one over tensors."""

import argparse
from collections.abc import Iterator
from typing import Any

import torch

from benchmarks.gpu import bare_step, network_of
from benchmarks.turns import paced
from geoae.batches import CubePatches, fit_normalisation, parse_input, usable_rows
from geoae.cli.memory import keep_freed_memory
from geoae.cube import Cube
from geoae.encoder import FitContext
from geoae_torch.dataset import CubeDataset
from geoae_torch.feed import Feed, Patches, ResidentFeed, StreamFeed
from geoae_torch.objectives import Objective, kl_penalty
from geoae_torch.training import Recipe, train

CPU = torch.device("cpu")
LOOPS = ("bare", "memory", "cube", "dataset")
FOREVER = 1_000_000
WARM = 10


class Paced:
    """A feed that waits for its turns."""

    def __init__(self, feed: Feed, steps: int) -> None:
        self._feed, self._steps = feed, steps

    def __len__(self) -> int:
        return FOREVER  # one epoch without an end, so that nothing else is timed

    def batches(self, size: int, seed: int | None = None, start: int = 0) -> Iterator[Patches]:
        """Iterate again and again over full batches."""
        del start
        yield from paced(_endless(self._feed, size, seed or 0), self._steps, WARM)
        raise KeyboardInterrupt  # no more turns


def _endless(feed: Feed, size: int, seed: int) -> Iterator[Patches]:
    while True:
        seed += 1
        yield from (patches for patches in feed.batches(size, seed) if len(patches) == size)


def main() -> None:
    """Make a loop and let it wait for its turns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cube")
    parser.add_argument("loop", choices=LOOPS)
    parser.add_argument("--input", default="rgb")
    parser.add_argument("--preset", default="thesis-a8")
    parser.add_argument("--latent-dim", type=int, default=1024)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--bfloat16", action="store_true")
    parser.add_argument("--malloc", action=argparse.BooleanOptionalAction, default=True)
    arguments = parser.parse_args()
    if arguments.malloc:
        keep_freed_memory()
    cube = Cube.open(arguments.cube)
    channels = parse_input(cube, arguments.input)
    rows = usable_rows(cube, channels)
    source = CubePatches(cube, channels, fit_normalisation(cube, channels, rows, "unit"), rows=rows)
    network = network_of(arguments.preset, arguments.latent_dim, len(channels), CPU)
    batch, steps = arguments.batch, arguments.steps
    if arguments.loop in ("memory", "cube"):
        feed: Feed = ResidentFeed(source, CPU) if arguments.loop == "memory" else StreamFeed(source, CPU)
        objective = Objective("mae", penalties=(kl_penalty("calibrated", "mae"),))
        recipe = Recipe(
            objective=objective, batch_size=batch, epochs=1, augment=False, half=arguments.bfloat16
        )
        try:
            train(network, Paced(feed, steps), None, recipe, FitContext(), CPU)
        except KeyboardInterrupt:
            return
    step = bare_step(network, half=arguments.bfloat16)
    if arguments.loop == "bare":
        store: Any = ResidentFeed(source, CPU)._image
        images: torch.Tensor = store._images
        batches = (images[order].permute(0, 3, 1, 2) for order in _orders(len(images), batch))
    else:
        batches = _endless_dataset(arguments.cube, arguments.input, batch)
    for x in paced(batches, steps, WARM):
        step(x)


def _orders(count: int, batch: int) -> Iterator[torch.Tensor]:
    while True:
        yield from torch.randperm(count)[: count // batch * batch].split(batch)


def _endless_dataset(cube: str, channels: str, batch: int) -> Iterator[torch.Tensor]:
    dataset = CubeDataset(cube, part=None, input=channels, batch_size=batch)
    for epoch in range(FOREVER):
        dataset.set_epoch(epoch)
        yield from (found["image"] for found in dataset if len(found["image"]) == batch)


if __name__ == "__main__":
    main()
