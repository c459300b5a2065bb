"""The training loop: it learns, keeps the best, goes on where it was, and stops when numbers are no more."""

import dataclasses
import json
import math
import os
import signal
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra [torch]")

from geoae.encoder import FitContext  # noqa: E402
from geoae.errors import GeoaeError, PluginError  # noqa: E402
from geoae.testing import ArrayPatches, synthetic_patches  # noqa: E402
from geoae_torch import training  # noqa: E402
from geoae_torch.checkpoints import BEST, LAST  # noqa: E402
from geoae_torch.corruption import parse_corruption  # noqa: E402
from geoae_torch.description import load_architecture, parse_architecture  # noqa: E402
from geoae_torch.feed import ResidentFeed, StreamFeed, make_feed  # noqa: E402
from geoae_torch.logs import LOG, LOGS  # noqa: E402
from geoae_torch.measures import measure  # noqa: E402
from geoae_torch.networks import build  # noqa: E402
from geoae_torch.objectives import Objective, kl_penalty  # noqa: E402
from geoae_torch.optimisers import KerasRMSprop, make_optimiser  # noqa: E402
from geoae_torch.shapes import plan  # noqa: E402
from geoae_torch.training import Recipe, device_of, evaluate, train  # noqa: E402

CPU = torch.device("cpu")
TINY = """
name: tiny
latent_dim: 3
encoder: [{layer: conv, filters: 4, stride: 2, activation: relu}, {layer: flatten}]
decoder:
  - {layer: dense}
  - {layer: reshape, channels: 4}
  - {layer: transposed-conv, filters: bands, stride: 2, activation: sigmoid}
"""


@pytest.fixture(autouse=True)
def one_thread():
    """Networks of a few numbers gain nothing from more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def network_of(variational=True, patch=8, bands=2, text=TINY):
    return build(
        plan(parse_architecture(text, "test"), patch=patch, bands=bands, variational=variational), seed=0
    )


@pytest.fixture(scope="module")
def patches():
    raw = synthetic_patches(30, (2, 8, 8)).batch()
    return ArrayPatches(np.clip(raw.image * 0.2 + 0.5, 0, 1) * raw.valid, raw.valid)


@pytest.fixture(scope="module")
def held_out():
    raw = synthetic_patches(10, (2, 8, 8), seed=1).batch()
    return ArrayPatches(np.clip(raw.image * 0.2 + 0.5, 0, 1) * raw.valid, raw.valid)


def recipe_of(**options):
    objective = Objective("mae", penalties=(kl_penalty("calibrated", "mae"),))
    return Recipe(**{"objective": objective, "batch_size": 8, "epochs": 4, **options})


def run(patches, held_out=None, *, folder=None, network=None, progress=None, **options):
    network = network_of() if network is None else network
    context = FitContext(folder=folder)
    if progress is not None:
        context = dataclasses.replace(context, progress=progress)
    validation = None if held_out is None else ResidentFeed(held_out, CPU)
    outcome = train(network, ResidentFeed(patches, CPU), validation, recipe_of(**options), context, CPU)
    return network, outcome


def weights(network):
    return {name: tensor.numpy().tobytes() for name, tensor in network.state_dict().items()}


# --- learning ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimiser", ["adam", "rmsprop", "rmsprop-keras"])
def test_it_learns(patches, held_out, optimiser):
    before = evaluate(network_of(), ResidentFeed(held_out, CPU), recipe_of(), CPU)
    network, outcome = run(patches, held_out, epochs=40, learning_rate=1e-2, optimiser=optimiser)
    after = evaluate(network, ResidentFeed(held_out, CPU), recipe_of(), CPU)
    assert after["mae"] < 0.7 * before["mae"]
    assert outcome.steps == 160
    assert len(outcome.curves["loss"]) == 40


def test_equal_seeds_give_equal_bytes_and_others_do_not(patches, held_out):
    first, second, other = (run(patches, held_out, seed=s)[0] for s in (0, 0, 1))
    assert weights(first) == weights(second)
    assert weights(first) != weights(other)


def test_deterministic_mode_is_put_back(patches):
    run(patches, deterministic=True, epochs=1)
    assert not torch.are_deterministic_algorithms_enabled()
    assert not torch.backends.cudnn.benchmark


def test_batches_of_a_patch_more_are_counted_and_seen(patches):
    _, outcome = run(patches, batch_size=8, epochs=2)
    assert outcome.steps == 8  # 8, 8, 8 and 6 patches, twice
    _, outcome = run(patches, batch_size=8, epochs=2, steps=5)
    assert (outcome.steps, outcome.epochs) == (5, 2)
    _, outcome = run(patches, batch_size=1000, epochs=2)
    assert outcome.steps == 2
    assert outcome.notes == ("batch size reduced from 1000 to 30: there are no more training patches",)


def test_without_a_length_it_makes_so_many_steps_or_an_epoch(patches, monkeypatch):
    monkeypatch.setattr(training, "_LEAST_STEPS", 6)
    assert run(patches, epochs=None)[1].steps == 6
    assert run(patches, epochs=None, batch_size=3)[1].steps == 10


def test_the_rate_follows_its_schedule(patches, held_out):
    rates = run(patches, held_out, epochs=4, schedule="constant-then-linear", final_rate=0.2)[1].curves
    # The rates of steps 3, 7, 11 and 15 of 16.
    expected = [1, 1, 1 - 0.8 * (11 / 16 - 0.5) / 0.5, 1 - 0.8 * (15 / 16 - 0.5) / 0.5]
    assert np.allclose(rates["learning_rate"], 1e-3 * np.array(expected))
    rates = run(patches, held_out, epochs=2, schedule="exponential", final_rate=0.01)[1].curves
    assert np.allclose(rates["learning_rate"], 1e-3 * 0.01 ** (np.array([3, 7]) / 8))
    rates = run(patches, held_out, epochs=3, schedule="constant")[1].curves
    assert set(rates["learning_rate"]) == {1e-3}


def test_a_plateau_halves_the_rate(patches, held_out, monkeypatch):
    values = iter([1.0, 0.9, 0.95, 0.96, 0.8, 0.85, 0.86, 0.87])
    monkeypatch.setattr(training, "evaluate", lambda *_: {"loss": next(values)})
    rates = run(patches, held_out, epochs=8, schedule="plateau", plateau=2)[1].curves["learning_rate"]
    assert np.allclose(rates, 1e-3 * np.array([1, 1, 1, 1, 0.5, 0.5, 0.5, 0.25]))


def test_patience_ends_it_and_the_best_weights_come_back(patches, held_out, monkeypatch):
    values = iter([1.0, 0.5, 0.6, 0.7, 0.8])
    seen = []

    def evaluation(network, *_):
        seen.append(weights(network))
        return {"loss": next(values)}

    monkeypatch.setattr(training, "evaluate", evaluation)
    network, outcome = run(patches, held_out, epochs=50, patience=3)
    assert outcome.steps == 20
    assert outcome.best == 8
    assert weights(network) == seen[1] != seen[-1]
    assert outcome.notes == ("stopped after 20 of 200 steps: no progress in 3 evaluations",)


def test_gradients_are_clipped(patches):
    before = weights_of(network_of())
    moved = {}
    for clip in (None, 1e-6):
        # With epsilon inside the root and far above gradients, steps are as long as gradients.
        network, _ = run(patches, clip=clip, epochs=1, steps=1, optimiser="rmsprop-keras", epsilon=1e4)
        moved[clip] = float(torch.linalg.vector_norm(weights_of(network) - before))
    assert moved[1e-6] < 1e-3 * moved[None]


def weights_of(network):
    return torch.cat([p.detach().flatten() for p in network.parameters()])


def test_keras_puts_epsilon_inside_the_root():
    for kind, expected in (
        ("rmsprop-keras", 1 / math.sqrt(0.1 * 4 + 0.5)),
        ("rmsprop", 1 / (math.sqrt(0.4) + 0.5)),
    ):
        parameter = torch.nn.Parameter(torch.tensor([1.0]))
        optimiser = make_optimiser(kind, [parameter], 0.1, 0.5)
        parameter.grad = torch.tensor([2.0])
        optimiser.step()
        assert parameter.item() == pytest.approx(1 - 0.1 * 2 * expected, rel=1e-6)
    with pytest.raises(ValueError, match="no closure"):
        KerasRMSprop([parameter], 0.1, 0.5).step(lambda: 0.0)


def test_corruption_is_seen_by_the_encoder_alone_and_leaves_voids_empty(patches, held_out):
    seen = []
    network = network_of(variational=False)
    network.encoder[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach().clone()))
    objective = Objective("mae")
    run(
        patches,
        network=network,
        corruption=parse_corruption("gaussian"),
        objective=objective,
        epochs=1,
        augment=False,
    )
    noisy = torch.cat([x.permute(0, 2, 3, 1).reshape(-1, 2) for x in seen])
    batch = patches.batch()
    assert (noisy == 0).sum() == (~batch.valid).sum()  # voids, which no noise fills
    assert noisy.std() > batch.image.std()
    first, second = (
        evaluate(
            network,
            ResidentFeed(held_out, CPU),
            recipe_of(corruption=parse_corruption("mixture"), objective=objective),
            CPU,
        )
        for _ in range(2)
    )
    assert first == second


def test_progress_tells_epoch_loss_parts_validation_and_speed(patches, held_out, monkeypatch):
    monkeypatch.setattr(training, "_PROGRESS_SECONDS", 0)
    calls = []
    run(patches, held_out, progress=lambda *call: calls.append(call))
    assert {call[0] for call in calls} == {"steps"}
    assert [call[1] for call in calls] == [*range(1, 17), 16]
    assert {"epoch", "loss", "mae", "kl", "validation", "patches/s"} <= set(calls[-2][3])


def test_bfloat16_learns_too_and_weights_stay_float32(patches, held_out):
    network, _ = run(patches, held_out, epochs=40, learning_rate=1e-2, half=True)
    exact, _ = run(patches, held_out, epochs=40, learning_rate=1e-2)
    assert {p.dtype for p in network.parameters()} == {torch.float32}
    errors = [evaluate(n, ResidentFeed(held_out, CPU), recipe_of(), CPU)["mae"] for n in (network, exact)]
    assert errors[0] == pytest.approx(errors[1], rel=0.15)


# --- going on ---------------------------------------------------------------------------------------


class KilledError(Exception):
    """Stands for whatever ends a process."""


@pytest.mark.parametrize("optimiser", ["adam", "rmsprop", "rmsprop-keras"])
@pytest.mark.parametrize("at", [3, 8, 13])
def test_a_run_that_was_interrupted_goes_on_as_if_it_had_not_been(
    patches, held_out, tmp_path, monkeypatch, at, optimiser
):
    whole, expected = run(patches, held_out, optimiser=optimiser, folder=tmp_path_of(tmp_path, "whole"))
    monkeypatch.setattr(training, "_PROGRESS_SECONDS", 0)
    folder = tmp_path_of(tmp_path, "cut")

    def interrupt(stage, done, total, values):
        if done == at:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run(patches, held_out, optimiser=optimiser, folder=folder, progress=interrupt)
    assert (folder / LAST).exists()
    done = []
    network, outcome = run(
        patches, held_out, optimiser=optimiser, folder=folder, progress=lambda *call: done.append(call[1])
    )
    assert min(done) == at + 1  # nothing is done twice
    assert weights(network) == weights(whole)
    assert outcome == expected
    lines = [log_of(f) for f in (tmp_path / "whole", folder)]
    assert lines[0] == lines[1]


def tmp_path_of(tmp_path, name):
    (tmp_path / name).mkdir()
    return tmp_path / name


def log_of(folder):
    rows = [json.loads(line) for line in (folder / LOGS / LOG).read_text().splitlines()]
    return [{k: v for k, v in row.items() if k != "patches_per_second"} for row in rows]


def test_a_kill_costs_no_more_than_the_time_since_the_last_checkpoint(
    patches, held_out, tmp_path, monkeypatch
):
    whole, _ = run(patches, held_out)
    monkeypatch.setattr(training, "_PROGRESS_SECONDS", 0)

    def die(stage, done, total, values):
        if done == 10:
            raise KilledError

    with pytest.raises(KilledError):
        run(patches, held_out, folder=tmp_path, progress=die)
    done = []
    network, _ = run(patches, held_out, folder=tmp_path, progress=lambda *call: done.append(call[1]))
    assert min(done) == 9  # the last evaluation was at 8
    assert weights(network) == weights(whole)


def test_checkpoints_are_written_between_evaluations_when_they_are_long(patches, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "_CHECKPOINT_SECONDS", -1)
    monkeypatch.setattr(training, "_PROGRESS_SECONDS", 0)

    def die(stage, done, total, values):
        if done == 3:
            raise KilledError

    with pytest.raises(KilledError):
        run(patches, folder=tmp_path, progress=die)
    assert (tmp_path / LAST).exists()


def test_handlers_of_signals_are_put_back(patches, tmp_path):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    run(patches, epochs=1)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


@pytest.mark.parametrize("damage", ["cut", "pickle", "other network"])
def test_a_damaged_checkpoint_is_told_and_begun_anew(patches, held_out, tmp_path, damage):
    whole, _ = run(patches, held_out, folder=tmp_path)
    if damage == "cut":
        (tmp_path / LAST).write_bytes((tmp_path / LAST).read_bytes()[:-10])
    elif damage == "pickle":
        (tmp_path / LAST).write_bytes(b"\x80\x04N.")
    else:
        other = tmp_path_of(tmp_path, "other")
        run(patches, network=network_of(variational=False), folder=other, objective=Objective("mae"))
        (other / LAST).replace(tmp_path / LAST)
    network, outcome = run(patches, held_out, folder=tmp_path)
    assert weights(network) == weights(whole)
    assert "the training began anew, its checkpoint cannot be used" in outcome.notes[0]


def test_the_best_checkpoint_must_be_there(patches, held_out, tmp_path):
    run(patches, held_out, folder=tmp_path)
    (tmp_path / BEST).unlink()
    with pytest.raises(PluginError, match=r"best\.safetensors is missing"):
        run(patches, held_out, folder=tmp_path)


# --- numbers that are no more -----------------------------------------------------------------------


def test_pixels_that_are_not_finite_stop_the_first_step(patches):
    source = ArrayPatches(patches.batch().image)
    source._image[3, 0, 2, 2] = np.nan
    with pytest.raises(GeoaeError, match="the loss is not finite at step") as error:
        run(source, batch_size=30, augment=False)
    assert "pixels" in error.value.hint


@pytest.mark.parametrize("validated", [True, False])
def test_a_loss_that_breaks_later_leaves_the_last_good_state(patches, held_out, validated):
    good, _ = run(patches, held_out if validated else None, epochs=4, steps=8, schedule="constant")
    clean = Objective("mae", penalties=(kl_penalty("calibrated", "mae"),))
    calls = []

    def objective(batch, logits, code):
        loss = clean(batch, logits, code)
        if torch.is_grad_enabled():
            calls.append(1)
        if len(calls) <= 10:
            return loss
        return dataclasses.replace(loss, parts={**loss.parts, "loss": loss.total.detach() * math.nan})

    objective.input_gradient = False
    network, outcome = run(
        patches, held_out if validated else None, epochs=4, schedule="constant", objective=objective
    )
    assert "the loss was not finite at step 10 of 16: the state of step" in outcome.notes[-1]
    assert all(torch.isfinite(p).all() for p in network.parameters())
    assert outcome.best in (4, 8)
    if outcome.best == 8:
        assert weights(network) == weights(good)


# --- batch normalisation ----------------------------------------------------------------------------


NORMED = TINY.replace(
    "filters: 4, stride: 2, activation: relu", "filters: 4, stride: 2, batch_norm: true"
) + ("code: {kind: dense, batch_norm: true}\n")


def test_a_last_batch_of_one_patch_is_left_out_where_it_would_break():
    source = synthetic_patches(9, (2, 8, 8))
    network = network_of(variational=False, text=NORMED)
    _, outcome = run(source, network=network, batch_size=4, epochs=3, objective=Objective("mae"))
    assert outcome.steps == 6
    with pytest.raises(GeoaeError, match="batches of 2 patches"):
        run(synthetic_patches(1, (2, 8, 8)), network=network, objective=Objective("mae"))


# --- feeding ----------------------------------------------------------------------------------------


def all_of(feed, size=7, **options):
    found = list(feed.batches(size, **options))
    return [
        torch.cat([getattr(p, name).expand(-1, 2, -1, -1) for p in found]).float()
        for name in ("image", "target")
    ] + [
        torch.cat(
            [
                torch.ones_like(p.image) if p.valid is None else p.valid.expand_as(p.image).float()
                for p in found
            ]
        )
    ]


@pytest.mark.parametrize("targeted", [False, True])
def test_patches_are_the_same_from_memory_and_from_the_source(patches, targeted):
    source = patches
    if targeted:
        batch = patches.batch()
        source = ArrayPatches(
            batch.image, batch.valid, target=1 - batch.image, target_valid=batch.image > 0.5
        )
    streamed, resident = (all_of(kind(source, CPU)) for kind in (StreamFeed, ResidentFeed))
    assert all(torch.equal(a, b) for a, b in zip(streamed, resident, strict=True))
    assert torch.equal(streamed[0], torch.from_numpy(source.batch().image))
    assert torch.equal(streamed[2], torch.from_numpy(source.batch().valid).float())
    for kind in (StreamFeed, ResidentFeed):
        whole = list(kind(source, CPU).batches(7, seed=4))
        later = list(kind(source, CPU).batches(7, seed=4, start=3))
        assert [len(p) for p in whole] == [7, 7, 7, 7, 2]
        assert [torch.equal(a.image, b.image) for a, b in zip(whole[3:], later, strict=True)] == [True, True]
        assert not torch.equal(whole[0].image, next(kind(source, CPU).batches(7, seed=5)).image)
        assert all(p.image.is_contiguous(memory_format=torch.channels_last) for p in whole)


def test_what_does_not_fit_is_streamed(patches):
    numbers = 30 * 2 * 8 * 8
    assert isinstance(make_feed(patches, CPU, limit=5 * numbers), ResidentFeed)
    assert isinstance(make_feed(patches, CPU, limit=5 * numbers - 1), StreamFeed)


def test_training_from_a_stream_is_training(patches, held_out):
    network = network_of()
    train(network, StreamFeed(patches, CPU), StreamFeed(held_out, CPU), recipe_of(), FitContext(), CPU)
    again = network_of()
    train(again, StreamFeed(patches, CPU), StreamFeed(held_out, CPU), recipe_of(), FitContext(), CPU)
    assert weights(network) == weights(again)


def test_a_processor_reads_in_turn_with_its_work(patches):
    class Patient(ArrayPatches):
        asked = False

        def in_turn(self):
            Patient.asked = True
            return self

    first = next(StreamFeed(Patient(patches.batch().image), CPU).batches(4))
    assert len(first) == 4
    assert Patient.asked


def test_a_stream_that_is_left_early_ends(patches):
    class Watched(ArrayPatches):
        closed = False

        def batches(self, size, shuffle_seed=None):
            try:
                yield from super().batches(size, shuffle_seed)
            finally:
                Watched.closed = True

    source = Watched(patches.batch().image)
    batches = StreamFeed(source, CPU).batches(4)
    next(batches)
    batches.close()
    assert Watched.closed


# --- devices and measures ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cuda", "cuda:3"])
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_one_clear_line(name):
    with pytest.raises(GeoaeError, match=f"--device {name}: ") as error:
        device_of(name)
    assert error.value.hint == "--device cpu, or auto"


def test_devices_that_are_none():
    assert device_of("cpu") == CPU
    assert device_of("auto").type in ("cpu", "cuda")
    for name in ("tpu", "cuda:x", ""):
        with pytest.raises(GeoaeError, match="no device"):
            device_of(name)


@pytest.mark.parametrize("count", [30, 2])  # fewer patches than units are measured in another way
def test_measures_are_those_of_numpy(patches, count):
    network = network_of()
    assert 2 < network.plan.latent_dim < 30
    raw = patches.batch()
    patches = ArrayPatches(raw.image[:count], raw.valid[:count])
    with torch.no_grad():
        network.log_var.body.bias += 0.5
    figures, curves = measure(network, ResidentFeed(patches, CPU), CPU)
    batch = patches.batch()
    with torch.no_grad():
        code = network.encode(torch.from_numpy(batch.image))
        image = network.decode(code.mean).numpy()
    difference = (image - batch.image)[batch.valid]
    assert figures["mae"] == pytest.approx(np.abs(difference).mean(), rel=1e-5)
    assert figures["mse"] == pytest.approx((difference**2).mean(), rel=1e-5)
    bands = [np.abs(image - batch.image)[:, i][batch.valid[:, i]].mean() for i in range(2)]
    assert np.allclose(curves["band_mae"], bands, rtol=1e-5)
    covariance = np.cov(code.mean.numpy().T, bias=True)
    ratio = np.trace(covariance) ** 2 / np.trace(covariance @ covariance)
    assert figures["participation_ratio"] == pytest.approx(ratio, rel=1e-4)
    mean, log_var = code.mean.numpy(), code.log_var.numpy()
    spectrum = 0.5 * (mean**2 + np.exp(log_var) - 1 - log_var).mean(0)
    assert np.allclose(curves["kl_spectrum"], np.sort(spectrum)[::-1], rtol=1e-4)
    assert figures["kl"] == pytest.approx(spectrum.sum(), rel=1e-4)
    assert figures["active_units"] == (spectrum > 0.05).sum()


def test_a_code_that_says_nothing_takes_part_in_nothing():
    network = network_of(variational=False)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    figures, _ = measure(network, ResidentFeed(synthetic_patches(5, (2, 8, 8)), CPU), CPU)
    assert figures["participation_ratio"] == 0


def test_tensorboard_gets_the_figures_of_the_log(patches, held_out, tmp_path):
    """Read back by TensorBoard's own reader: the same numbers at the same steps."""
    pytest.importorskip("tensorboard", reason="needs the extra [tensorboard]")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run(patches, held_out, folder=tmp_path, tensorboard=True)
    rows = [json.loads(line) for line in (tmp_path / LOGS / LOG).read_text().splitlines()]
    (path,) = (tmp_path / LOGS).glob("events*")
    board = EventAccumulator(str(path)).Reload()
    names = set(rows[0]) - {"patches_per_second"}
    assert set(board.Tags()["scalars"]) == names
    for name in names:
        found = [(event.step, event.value) for event in board.Scalars(name)]
        assert [step for step, _ in found] == [row["step"] for row in rows]
        assert np.allclose([value for _, value in found], [row[name] for row in rows], rtol=1e-6)


def test_a_resumed_training_goes_on_in_tensorboard(patches, held_out, tmp_path, monkeypatch):
    """Steps that were made twice, before and after an interruption, are shown once."""
    pytest.importorskip("tensorboard", reason="needs the extra [tensorboard]")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    class StoppedError(Exception):
        """Instead of a signal."""

    def stop(_stage, done, _total, _values):
        if done == 11:
            raise StoppedError

    monkeypatch.setattr(training, "_PROGRESS_SECONDS", 0)
    with pytest.raises(StoppedError):
        run(patches, held_out, folder=tmp_path, tensorboard=True, progress=stop)
    run(patches, held_out, folder=tmp_path, tensorboard=True)
    board = EventAccumulator(str(tmp_path / LOGS)).Reload()
    assert [event.step for event in board.Scalars("loss")] == [4, 8, 12, 16]


def test_tensorboard_is_asked_for_in_vain_without_it(patches, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(PluginError, match="TensorBoard is not installed") as error:
        run(patches, folder=tmp_path, tensorboard=True)
    assert error.value.hint == "pip install 'geoae[tensorboard]'"


def test_presets_have_the_activation_that_the_loss_needs():
    assert build(plan(load_architecture("thesis-a8"), patch=32)).output_activation == "sigmoid"
