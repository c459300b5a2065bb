"""Steps: how a network is trained, and what one batch goes through on its way.

All randomness of a step is drawn from its number, so that a run that was interrupted goes on exactly as if it
had not been.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from geoae.errors import GeoaeError
from geoae_torch.corruption import Corruption, corrupt, variants
from geoae_torch.feed import Feed, Patches, augment
from geoae_torch.networks import Autoencoder, Code
from geoae_torch.objectives import Batch, Objective
from geoae_torch.optimisers import OptimiserName, ScheduleName

__all__ = ["ORDER", "STEP", "Preparation", "Recipe", "device_of", "draw", "evaluate", "forward"]

# What random numbers are for; each has a stream of its own.
ORDER, STEP, VALIDATION = 0, 1, 2


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Parameters
    ----------
    objective
        What is made small.
    batch_size
        Patches of a step.
    steps, epochs
        How long; with neither, `_LEAST_STEPS`, or an epoch if that is more. With both, whichever ends first.
    learning_rate, optimiser, epsilon, schedule, final_rate, hold, plateau
        See `geoae_torch.optimisers`; `plateau` is the number of evaluations without progress after which
        that schedule halves the rate.
    patience
        Evaluations without progress after which training ends; None: never.
    clip
        Largest norm of the gradient; None: any.
    augment
        Whether patches are flipped and turned at random.
    corruption
        What is done to the input, see `geoae_torch.corruption.parse_corruption`.
    seed
        Of everything random but the initial weights.
    deterministic
        Refuse operations whose result may differ from run to run.
    half
        Compute in bfloat16 where that is safe; weights stay float32.
    tensorboard
        Also write a log for TensorBoard.
    """

    objective: Objective = field(default_factory=Objective)
    batch_size: int = 32
    steps: int | None = None
    epochs: int | None = None
    learning_rate: float = 1e-3
    optimiser: OptimiserName = "adam"
    epsilon: float = 1e-7
    schedule: ScheduleName = "constant-then-linear"
    final_rate: float = 0.02
    hold: float = 0.5
    plateau: int = 3
    patience: int | None = None
    clip: float | None = None
    augment: bool = True
    corruption: tuple[tuple[Corruption, ...], ...] = ()
    seed: int = 0
    deterministic: bool = False
    half: bool = False
    tensorboard: bool = False


def device_of(name: str) -> torch.device:
    """Return the device that a user asked for.

    Parameters
    ----------
    name
        ``auto`` takes a GPU if there is one; ``cpu``; ``cuda``, or one of several as ``cuda:1``.

    Raises
    ------
    GeoaeError
        If there is none of that name.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdecimal()):
        raise GeoaeError(f"no device {name!r}", hint="--device auto, cpu or cuda")
    if kind == "cuda" and not torch.cuda.is_available():
        why = "this torch was built without CUDA" if torch.version.cuda is None else "no GPU was found"
        raise GeoaeError(f"--device {name}: {why}", hint="--device cpu, or auto")
    if kind == "cuda" and number and int(number) >= torch.cuda.device_count():
        raise GeoaeError(f"--device {name}: there are {torch.cuda.device_count()} GPUs, counted from 0")
    return torch.device(name)


def forward(network: Autoencoder, batch: Batch, *, sample: bool, half: bool = False) -> tuple[Tensor, Code]:
    """Compute logits and code of a batch.

    Parameters
    ----------
    network
        The network.
    batch
        The patches.
    sample
        Whether the decoder gets a draw from the code's distribution, as training a variational network needs,
        or its mean.
    half
        Compute in bfloat16 where that is safe.
    """
    with torch.autocast(batch.image.device.type, dtype=torch.bfloat16, enabled=half):
        code = network.encode(batch.image)
        z = code.mean
        if sample and code.log_var is not None:
            noise = torch.randn(z.shape, generator=batch.generator, device=z.device)
            z = z + noise * torch.exp(0.5 * code.log_var.float())
        return network.logits(z, code.indices), code


def draw(seed: int, *what: int) -> int:
    """Return a number drawn from a seed and what it is for."""
    return int(np.random.SeedSequence([seed, *what]).generate_state(1, np.uint64)[0] >> 1)


class Preparation:
    """Turns patches into a batch: mirrored, corrupted, with a generator of its own."""

    def __init__(self, recipe: Recipe, device: torch.device) -> None:
        self._recipe = recipe
        self._generator = torch.Generator(device)

    def __call__(self, patches: Patches, purpose: int, number: int) -> Batch:
        """Prepare the patches of a step or an evaluation, by its number."""
        recipe = self._recipe
        seed = draw(recipe.seed, purpose, number)
        generator = self._generator.manual_seed(seed)
        if recipe.augment and purpose == STEP:
            y, x = patches.image.shape[-2:]
            turns = variants(len(patches), y == x, np.random.default_rng(seed))
            patches = augment(patches, turns)
        image = patches.image
        if recipe.corruption:
            image = corrupt(image, recipe.corruption, generator)
            if patches.valid is not None:
                image = image * patches.valid
        if recipe.objective.input_gradient and purpose == STEP:
            image = image.detach().requires_grad_()
        weight = None if patches.target_valid is None else patches.target_valid.float()
        return Batch(image, patches.target, weight, generator)


def evaluate(
    network: Autoencoder, feed: Feed, recipe: Recipe, device: torch.device, batch_size: int = 64
) -> dict[str, float]:
    """Average the figures of an objective over patches, without draws from the code and without turns."""
    network.eval()
    prepare = Preparation(recipe, device)
    sums: dict[str, Tensor] = {}
    with torch.no_grad():
        for number, patches in enumerate(feed.batches(batch_size)):
            batch = prepare(patches, VALIDATION, number)
            loss = recipe.objective(batch, *forward(network, batch, sample=False, half=recipe.half))
            for name, value in loss.parts.items():
                sums[name] = sums.get(name, torch.zeros((), device=device)) + value * len(patches)
    return {name: float(value) / len(feed) for name, value in sums.items()}
