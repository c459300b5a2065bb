"""Training on a GPU: geoae's loop beside a bare loop over tensors that lie on the device.

    python -m benchmarks.gpu [--patches 178112] [--out FILE]

Needs torch and a GPU, and of geoae only its networks and its training: patches are made up, since their
values do not change the time.
"""

import argparse
import json
import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from geoae.encoder import Channel, FitContext, PatchBatch
from geoae_torch.description import load_architecture
from geoae_torch.feed import Feed, ResidentFeed, StreamFeed
from geoae_torch.networks import Autoencoder, build
from geoae_torch.objectives import Objective, kl_penalty
from geoae_torch.shapes import plan
from geoae_torch.training import Recipe, train

PATCH = 128
CASES = (
    # network, latent size, bands, batch
    ("thesis-a8", 1024, 3, 128),
    ("thesis-a8", 1024, 3, 1024),
    ("thesis-a8", 1024, 8, 128),
    ("residual", 64, 3, 128),
    ("residual", 64, 3, 1024),
)


class Repeated:
    """A source of many patches that holds few."""

    def __init__(self, count: int, bands: int) -> None:
        self._pool = np.random.default_rng(0).random((512, bands, PATCH, PATCH), np.float32)
        self._count = count
        self.channels = tuple(Channel("image", f"band_{i}") for i in range(bands))
        self.target_channels = self.channels
        self.patch_shape = (PATCH, PATCH)

    def __len__(self) -> int:
        return self._count

    def batches(self, size: int, shuffle_seed: int | None = None) -> Iterator[PatchBatch]:
        """Iterate over as many patches as were asked for."""
        del shuffle_seed
        for start in range(0, self._count, size):
            rows = np.arange(start, min(start + size, self._count))
            image = self._pool[rows % len(self._pool)]
            valid = np.broadcast_to(np.True_, image.shape)
            yield PatchBatch(rows, image, valid)


def network_of(name: str, latent: int, bands: int, device: torch.device, seed: int = 0) -> Autoencoder:
    """Build a variational network."""
    sizes = plan(load_architecture(name), patch=PATCH, bands=bands, latent_dim=latent, variational=True)
    return build(sizes, seed=seed, device=device)


def bare(network: Any, images: torch.Tensor, batch: int, steps: int, *, half: bool) -> float:
    """Train on tensors, with nothing else; return patches a second."""
    order = torch.randperm(len(images), device=images.device)
    make = bare_step(network, half=half)

    def step(number: int) -> None:
        start = number * batch % (len(images) - batch + 1)
        make(images[order[start : start + batch]].permute(0, 3, 1, 2))

    return timed(step, steps, batch, images.device)


def bare_step(network: Any, *, half: bool) -> Callable[[torch.Tensor], None]:
    """Return a step of training with nothing of geoae but the network."""
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3, eps=1e-7, fused=True)

    def step(x: torch.Tensor) -> None:
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=half):
            code = network.encode(x)
            z = code.mean + torch.randn_like(code.mean) * torch.exp(0.5 * code.log_var)
            logits = network.logits(z)
        error = (torch.sigmoid(logits.float()) - x).abs().mean()
        mean, log_var = code.mean.float(), code.log_var.float()
        divergence = 0.5 * (mean.square() + log_var.exp() - 1 - log_var).sum(1).mean()
        (error + error.detach() * divergence / x[0].numel()).backward()
        optimiser.step()

    return step


def timed(step: Any, steps: int, batch: int, device: torch.device) -> float:
    """Return patches a second of some steps, after some to warm up."""
    for number in range(min(10, steps)):
        step(number)
    synchronise(device)
    begin = time.perf_counter()
    for number in range(steps):
        step(number)
    synchronise(device)
    return steps * batch / (time.perf_counter() - begin)


def synchronise(device: torch.device) -> None:
    """Wait for a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def ours(
    network: Autoencoder, feed: Feed, batch: int, steps: int, device: torch.device, **options: Any
) -> float:
    """Train as geoae does; return patches a second."""
    objective = Objective("mae", penalties=(kl_penalty("calibrated", "mae"),))
    recipe = Recipe(objective=objective, batch_size=batch, steps=10, **options)
    train(network, feed, None, recipe, FitContext(), device)
    synchronise(device)
    recipe = Recipe(objective=objective, batch_size=batch, steps=steps, **options)
    begin = time.perf_counter()
    train(network, feed, None, recipe, FitContext(), device)
    synchronise(device)
    return steps * batch / (time.perf_counter() - begin)


def main() -> None:
    """Measure all cases and print a line of JSON for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patches", type=int, default=178_112)
    parser.add_argument("--seconds", type=float, default=480.0)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    begun = time.monotonic()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name() if device.type == "cuda" else platform.machine()
    rows: list[dict[str, Any]] = [{"device": name, "torch": torch.__version__, "patches": arguments.patches}]
    feeds: dict[int, ResidentFeed] = {}
    for network_name, latent, bands, batch in CASES:
        count = arguments.patches // (
            2 if bands > 3 else 1
        )  # 8 bands of all patches do not fit beside the rest
        if bands not in feeds:
            feeds.clear()
            start = time.perf_counter()
            feeds[bands] = ResidentFeed(Repeated(count, bands), device)
            synchronise(device)
            rows.append({"loaded": count, "bands": bands, "seconds": round(time.perf_counter() - start, 1)})
            say(rows[-1])
        feed = feeds[bands]
        store = feed._image
        assert store is not None
        images = store._images  # the same tensors for both
        steps = -(-count // batch)
        for repeat in range(arguments.repeats):
            for half in (True, False):
                if time.monotonic() - begun > arguments.seconds:
                    break
                row: dict[str, Any] = {
                    "network": network_name, "latent": latent, "bands": bands, "batch": batch,
                    "bf16": half, "repeat": repeat, "epoch_steps": steps,
                }  # fmt: skip
                used = min(steps, 1400)
                torch.cuda.reset_peak_memory_stats() if device.type == "cuda" else None
                row["bare"] = bare(
                    network_of(network_name, latent, bands, device), images, batch, used, half=half
                )
                make = network_of(network_name, latent, bands, device)
                row["ours"] = ours(make, feed, batch, used, device, half=half, augment=False)
                make = network_of(network_name, latent, bands, device)
                row["ours_turned"] = ours(make, feed, batch, used, device, half=half, augment=True)
                if repeat == 0 and half:
                    compiled = network_of(network_name, latent, bands, device)
                    compiled.encode = torch.compile(compiled.encode)  # type: ignore[method-assign]
                    compiled.logits = torch.compile(compiled.logits)  # type: ignore[method-assign]
                    row["bare_compiled"] = bare(compiled, images, batch, used, half=half)
                row["bare_epoch_s"] = count / row["bare"]
                row["ours_epoch_s"] = count / row["ours"]
                row["ratio"] = row["bare"] / row["ours"]
                rows.append(row)
                say(row)
                if arguments.out is not None:
                    arguments.out.write_text(json.dumps(rows, indent=1))
    if device.type == "cuda":
        stream = StreamFeed(Repeated(8192, 3), device)
        rate = ours(
            network_of("thesis-a8", 1024, 3, device), stream, 128, 60, device, half=True, augment=False
        )
        rows.append({"streamed": rate})
        say(rows[-1])
        rows.append({"peak_gib": torch.cuda.max_memory_allocated() / 2**30})
        say(rows[-1])
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(rows, indent=1))


def say(row: dict[str, Any]) -> None:
    """Print a row."""
    print(json.dumps({k: round(v, 2) if isinstance(v, float) else v for k, v in row.items()}), flush=True)


if __name__ == "__main__":
    main()
