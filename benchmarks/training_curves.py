"""Loss curves of geoae and of Keras, several seeds each, on the same patches.

    python -m benchmarks.training_curves CUBE --keras keras-venv/bin/python [--seeds 3] [--steps 190]

Both train thesis-a8 with the calibrated divergence, by Adam at a constant rate and without turns. Printed are
the means of the error over four windows of steps, for each seed, then of error and loss over all seeds with
their deviation from seed to seed.
"""

import argparse
import json
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from benchmarks.gpu import network_of
from benchmarks.training import export
from geoae.cli.memory import keep_freed_memory
from geoae.encoder import FitContext
from geoae_torch.feed import Patches
from geoae_torch.networks import Code
from geoae_torch.objectives import Batch, Loss, Objective, kl_penalty
from geoae_torch.training import Recipe, train

CPU = torch.device("cpu")
WINDOWS = 4


@dataclass(frozen=True)
class Recorded(Objective):
    """An objective that remembers what it said."""

    said: list[tuple[float, float]] = field(default_factory=list)

    def __call__(self, batch: Batch, logits: torch.Tensor, code: Code) -> Loss:
        """Compute the loss of a batch."""
        loss = super().__call__(batch, logits, code)
        self.said.append((float(loss.parts["loss"]), float(loss.parts["mae"])))
        return loss


class Shuffled:
    """A feed of an array in memory ``(n, y, x, band)``, of full batches."""

    def __init__(self, images: torch.Tensor) -> None:
        self._images = images

    def __len__(self) -> int:
        return len(self._images)

    def batches(self, size: int, seed: int | None = None, start: int = 0) -> Iterator[Patches]:
        """Iterate over all patches once."""
        order = torch.from_numpy(np.random.default_rng(seed).permutation(len(self._images)))
        for rows in order.split(size)[start:]:
            images = self._images[rows].permute(0, 3, 1, 2)
            yield Patches(images, None, images, None)


def own_curve(
    images: torch.Tensor, seed: int, steps: int, batch: int, latent: int
) -> list[tuple[float, float]]:
    """Train geoae's network, and return loss and error of every step."""
    objective = Recorded("mae", penalties=(kl_penalty("calibrated", "mae"),))
    recipe = Recipe(
        objective=objective, batch_size=batch, steps=steps, schedule="constant", augment=False, seed=seed
    )
    network = network_of("thesis-a8", latent, images.shape[3], CPU, seed=seed)
    train(network, Shuffled(images), None, recipe, FitContext(), CPU)
    return objective.said


def peer_curve(python: str, path: Path, seed: int, options: argparse.Namespace) -> list[tuple[float, float]]:
    """Train the peer's, likewise."""
    command = [python, str(Path(__file__).with_name("keras_peer.py")), str(path), f"--seed={seed}"]
    sizes = [f"--steps={options.steps}", f"--batch={options.batch}", f"--latent-dim={options.latent_dim}"]
    done = subprocess.run([*command, *sizes], capture_output=True, text=True, check=True)
    row = json.loads(done.stdout.splitlines()[-1])
    return list(zip(row["loss"], row["mae"], strict=True))


def main() -> None:
    """Train, and print a line of JSON for each seed, then one for each window."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("cube")
    parser.add_argument("--keras", metavar="PYTHON", required=True)
    parser.add_argument("--input", default="rgb")
    parser.add_argument("--latent-dim", type=int, default=64)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=190, help="besides ten to begin with")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    keep_freed_memory()
    curves: dict[str, list[np.ndarray]] = {"geoae": [], "keras": []}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "images.npy"
        export(options.cube, options.input, path)
        images = torch.from_numpy(np.load(path))
        for seed in range(options.seeds):
            peer = np.array(peer_curve(options.keras, path, seed, options))
            own = np.array(own_curve(images, seed, len(peer), options.batch, options.latent_dim))
            for name, curve in (("geoae", own), ("keras", peer)):
                windows = np.stack([part.mean(0) for part in np.array_split(curve, WINDOWS)])  # (window, 2)
                curves[name].append(windows)
                print(
                    json.dumps({"side": name, "seed": seed, "mae": windows[:, 1].round(4).tolist()}),
                    flush=True,
                )
    sides = {name: np.stack(found) for name, found in curves.items()}  # (seed, window, 2)
    for place, what in enumerate(("loss", "mae")):
        for window in range(WINDOWS):
            values = {name: side[:, window, place] for name, side in sides.items()}
            row: dict[str, object] = {"figure": what, "window": window}
            row |= {f"{name}_mean": round(float(v.mean()), 4) for name, v in values.items()}
            row |= {f"{name}_deviation": round(float(v.std(ddof=1)), 4) for name, v in values.items()}
            print(json.dumps(row))


if __name__ == "__main__":
    main()
