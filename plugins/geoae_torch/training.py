"""Training: one loop for every network and every objective.

All randomness of a step is drawn from its number, so that a run that was interrupted goes on exactly as if it
had not been.
"""

import math
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from geoae.encoder import FitContext
from geoae.errors import GeoaeError
from geoae_torch.checkpoints import Checkpoints
from geoae_torch.feed import Feed
from geoae_torch.interruption import Interruptible
from geoae_torch.logs import Log
from geoae_torch.networks import Autoencoder
from geoae_torch.objectives import Batch, Loss
from geoae_torch.optimisers import make_optimiser, rate_factor
from geoae_torch.steps import ORDER, STEP, Preparation, Recipe, device_of, draw, evaluate, forward

__all__ = ["Outcome", "Recipe", "device_of", "evaluate", "forward", "train"]

_LEAST_STEPS = 2200
"""Steps of a training for which neither steps nor epochs were asked."""

_EVALUATIONS = 50
"""Most evaluations of a training that was not counted in epochs by its user."""

_CHECKPOINT_SECONDS = 120
_PROGRESS_SECONDS = 0.5

_LOOK = 20
"""Steps between looks at the loss on a GPU, which has to be waited for."""

_PLATEAU = 0.5
"""What a plateau multiplies the learning rate by."""


@dataclass(frozen=True)
class Outcome:
    """How a training went.

    Parameters
    ----------
    steps, epochs
        Steps that were made, and epochs that were begun.
    best
        Step whose weights the network has.
    curves
        By name, the figures of every evaluation; those of validation begin with ``validation_``.
    notes
        What a user must read.
    """

    steps: int
    epochs: int
    best: int
    curves: Mapping[str, list[float]]
    notes: tuple[str, ...] = ()


@dataclass
class _State:
    """What a training needs to go on, besides tensors; JSON values."""

    step: int = 0
    best_step: int = 0
    best_value: float | None = None
    waited: int = 0
    waited_rate: int = 0
    rate: float = 1.0
    sums: dict[str, float] = field(default_factory=dict)
    count: int = 0
    rows: list[dict[str, float]] = field(default_factory=list)


def train(
    network: Autoencoder,
    feed: Feed,
    validation: Feed | None,
    recipe: Recipe,
    context: FitContext,
    device: torch.device,
) -> Outcome:
    """Train a network, and leave it with the best weights that validation saw, or the last ones without.

    Parameters
    ----------
    network
        On the device; changed.
    feed, validation
        The patches.
    recipe
        How.
    context
        Its folder gets checkpoints and the log; a training that was interrupted there goes on.
    device
        Where.

    Raises
    ------
    GeoaeError
        If the loss is not finite before anything was learned.
    KeyboardInterrupt
        As it was raised, after the state was saved.
    """
    with _modes(recipe):
        return _Training(network, feed, validation, recipe, context, device).run()


@contextmanager
def _modes(recipe: Recipe) -> Iterator[None]:
    """Hold torch's switches for a while."""
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    if recipe.deterministic:
        # What CUDA's matrix products need to be equal from run to run; read when they are first used.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(recipe.deterministic or before[0])
    torch.backends.cudnn.benchmark = not recipe.deterministic
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cudnn.benchmark = before[1]


class _Training:
    """A training: what `train` does, step by step."""

    def __init__(
        self,
        network: Autoencoder,
        feed: Feed,
        validation: Feed | None,
        recipe: Recipe,
        context: FitContext,
        device: torch.device,
    ) -> None:
        self._network, self._feed, self._recipe, self._context = network, feed, recipe, context
        self._validation = validation if validation is not None and len(validation) else None
        self._device = device
        self._optimiser = make_optimiser(
            recipe.optimiser, network.parameters(), recipe.learning_rate, recipe.epsilon
        )
        self._prepare = Preparation(recipe, device)
        size = self._size = min(recipe.batch_size, len(feed))
        # Batch normalisation cannot train on one patch.
        normed = any(isinstance(m, torch.nn.modules.batchnorm._BatchNorm) for m in network.modules())
        self._epoch = len(feed) // size + (len(feed) % size > (1 if normed else 0))
        if normed and size < 2:
            raise GeoaeError(
                f"a network with batch normalisation needs batches of 2 patches or more, not {size}",
                hint="a larger --batch-size, more training patches, or a --preset without it",
            )
        self._total, self._every = self._budget()
        self._state = _State()
        self._checkpoints = Checkpoints(context.folder, network, self._optimiser)
        self._best: dict[str, Tensor] | None = None
        # The last evaluated state, where no validation says which is best.
        self._good: tuple[int, dict[str, Tensor]] | None = None
        self._pending: list[tuple[int, Mapping[str, Tensor]]] = []
        self._notes: list[str] = []
        if size < recipe.batch_size:
            self._notes.append(
                f"batch size reduced from {recipe.batch_size} to {size}: there are no more training patches"
            )

    def _budget(self) -> tuple[int, int]:
        """Return the number of steps, and the number of epochs between evaluations."""
        recipe = self._recipe
        if recipe.epochs is None:
            total = recipe.steps or max(_LEAST_STEPS, self._epoch)
            return total, max(math.ceil(total / self._epoch / _EVALUATIONS), 1)
        total = recipe.epochs * self._epoch
        return min(total, recipe.steps or total), 1

    def run(self) -> Outcome:
        state, folder = self._state, self._context.folder
        with ExitStack() as stack:
            self._resume()
            state = self._state
            self._log = stack.enter_context(Log(folder, state.step, tensorboard=self._recipe.tensorboard))
            self._interruption = stack.enter_context(Interruptible())
            try:
                while state.step < self._total and not self._enough():
                    self._run_epoch()
            except _NotFiniteError as error:
                self._stop_early(error)
        if self._best is not None:
            self._network.load_state_dict(self._best)
        self._network.eval()
        self._context.progress("steps", self._total, self._total, self._figures())
        return Outcome(
            steps=state.step,
            epochs=math.ceil(state.step / self._epoch),
            best=state.best_step if self._best is not None else state.step,
            curves=self._curves(),
            notes=tuple(self._notes),
        )

    def _resume(self) -> None:
        found, note = self._checkpoints.read_last()
        if note:
            self._notes.append(note)
        if found is not None:
            self._state = _State(**found)
        if self._state.best_value is not None:
            self._best = self._checkpoints.read_best()
        elif found is not None:
            self._good = self._state.step, self._weights()

    def _enough(self) -> bool:
        patience = self._recipe.patience
        if patience is None or self._state.waited < patience:
            return False
        self._notes.append(
            f"stopped after {self._state.step} of {self._total} steps: no progress in {patience} evaluations"
        )
        return True

    def _run_epoch(self) -> None:
        state = self._state
        number, start = divmod(state.step, self._epoch)
        order = draw(self._recipe.seed, ORDER, number)
        saved = self._clock = time.monotonic()
        self._clock_step, self._shown = state.step, 0.0
        batches = self._feed.batches(self._size, order, start)
        left = min(self._epoch - start, self._total - state.step)
        self._network.train()
        for number_left in reversed(range(left)):
            self._step(self._prepare(next(batches), STEP, state.step))
            self._show()
            # After the last step of an epoch comes its evaluation, which no going on may miss.
            if number_left and (self._interruption.asked or time.monotonic() - saved > _CHECKPOINT_SECONDS):
                self._look()
                self._checkpoints.write_last(vars(state))
                saved = time.monotonic()
                self._interruption.obey()
        batches.close()  # type: ignore[attr-defined]
        last = state.step >= self._total
        if last or (number + 1) % self._every == 0:
            self._look()
            self._evaluate(number + 1)
        if last or (number + 1) % self._every == 0 or self._interruption.asked:
            self._look()
            self._checkpoints.write_last(vars(state))
        self._interruption.obey()

    def _step(self, batch: Batch) -> None:
        state, recipe = self._state, self._recipe
        factor = rate_factor(recipe.schedule, state.step / self._total, recipe.final_rate, recipe.hold)
        for group in self._optimiser.param_groups:
            group["lr"] = recipe.learning_rate * factor * state.rate
        self._optimiser.zero_grad(set_to_none=True)
        loss = recipe.objective(batch, *forward(self._network, batch, sample=True, half=recipe.half))
        self._gather(loss, len(batch))
        loss.total.backward()  # type: ignore[no-untyped-call]
        if recipe.clip is not None:
            torch.nn.utils.clip_grad_norm_(self._network.parameters(), recipe.clip)
        self._optimiser.step()
        state.step += 1

    def _gather(self, loss: Loss, count: int) -> None:
        """Add the figures of a step to those since the last evaluation; look at them now and then."""
        self._pending.append((count, loss.parts))
        if self._device.type == "cpu" or len(self._pending) >= _LOOK:
            self._look()

    def _look(self) -> None:
        pending, self._pending = self._pending, []
        for count, parts in pending:
            values = {name: float(value) for name, value in parts.items()}
            if not all(math.isfinite(value) for value in values.values()):
                raise _NotFiniteError(self._state.step)
            for name, value in values.items():
                self._state.sums[name] = self._state.sums.get(name, 0.0) + value * count
            self._state.count += count

    def _means(self) -> dict[str, float]:
        return {name: value / max(self._state.count, 1) for name, value in self._state.sums.items()}

    def _evaluate(self, epoch: int) -> None:
        """Measure, remember the best, and lower the rate on a plateau."""
        state = self._state
        row = {"epoch": float(epoch), "step": float(state.step), **self._means()}
        row["learning_rate"] = float(self._optimiser.param_groups[0]["lr"])
        state.sums, state.count = {}, 0
        if self._validation is not None:
            figures = evaluate(self._network, self._validation, self._recipe, self._device)
            if not all(math.isfinite(value) for value in figures.values()):
                raise _NotFiniteError(state.step)
            row |= {f"validation_{name}": value for name, value in figures.items()}
        state.rows.append(row)
        self._log.write(row, patches_per_second=self._speed())
        if self._validation is None:
            self._good = state.step, self._weights()
            return
        value = row["validation_loss"]
        if state.best_value is None or value < state.best_value:
            state.best_value, state.best_step, state.waited, state.waited_rate = value, state.step, 0, 0
            self._best = self._weights()
            self._checkpoints.write_best(state.step)
            return
        state.waited += 1
        state.waited_rate += 1
        if self._recipe.schedule == "plateau" and state.waited_rate >= self._recipe.plateau:
            state.rate, state.waited_rate = max(state.rate * _PLATEAU, self._recipe.final_rate), 0

    def _stop_early(self, error: "_NotFiniteError") -> None:
        """Keep the last good state, if there is one."""
        if self._best is not None:
            kept = self._state.best_step  # which `run` restores
        elif self._good is not None:
            kept, weights = self._good
            self._network.load_state_dict(weights)
            self._state.step = kept
        else:
            raise GeoaeError(
                f"the loss is not finite at step {error.step}",
                hint="pixels that are not finite, or a --learning-rate that is too high",
            ) from None
        self._notes.append(
            f"the loss was not finite at step {error.step} of {self._total}: the state of step {kept} is kept"
        )

    def _weights(self) -> dict[str, Tensor]:
        return {name: tensor.detach().clone() for name, tensor in self._network.state_dict().items()}

    def _speed(self) -> float:
        seconds = time.monotonic() - self._clock
        return (self._state.step - self._clock_step) * self._size / max(seconds, 1e-9)

    def _figures(self) -> dict[str, float]:
        shown = {"epoch": float(math.ceil(self._state.step / self._epoch)), **self._means()}
        if self._state.rows:
            last = self._state.rows[-1]
            shown |= {"validation": last["validation_loss"]} if "validation_loss" in last else {}
        return shown

    def _show(self) -> None:
        now = time.monotonic()
        if now - self._shown >= _PROGRESS_SECONDS:
            self._shown = now
            figures = self._figures() | {"patches/s": self._speed()}
            self._context.progress("steps", self._state.step, self._total, figures)

    def _curves(self) -> dict[str, list[float]]:
        rows = self._state.rows
        return {name: [row[name] for row in rows] for name in (rows[0] if rows else ())}


class _NotFiniteError(Exception):
    """A loss is not finite."""

    def __init__(self, step: int) -> None:
        super().__init__(f"step {step}")
        self.step = step
