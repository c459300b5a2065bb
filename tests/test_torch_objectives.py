"""Objectives: errors over known pixels, divergences, sparsity and Jacobians, against hand and autograd."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra [torch]")

from geoae_torch.fused import sigmoid_error  # noqa: E402
from geoae_torch.networks import Code  # noqa: E402
from geoae_torch.objectives import (  # noqa: E402
    Batch,
    Objective,
    image_error,
    jacobian_penalty,
    kl_divergence,
    kl_penalty,
    sparsity_penalty,
)

KINDS = ["mae", "mse", "bce"]


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def plain_error(kind, logits, target, weight):
    """The same by the book."""
    image = torch.sigmoid(logits)
    if kind == "mae":
        values = (image - target).abs()
    elif kind == "mse":
        values = (image - target) ** 2
    else:
        values = -(target * image.log() + (1 - target) * (1 - image).log())
    weight = torch.ones_like(values) if weight is None else weight.expand_as(values)
    return (values * weight).sum((0, 2, 3)) / weight.sum()


# --- the error and its fused form -------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("masked", ["all known", "shared mask", "mask of each band"])
def test_the_fused_error_and_its_gradient_are_those_of_autograd(kind, masked):
    logits = (draw(3, 2, 5, 4) * 6 - 3).requires_grad_()
    target = draw(3, 2, 5, 4, seed=1)
    mask = {"all known": None, "shared mask": draw(3, 1, 5, 4, seed=2)}.get(masked, draw(3, 2, 5, 4, seed=2))
    weight = None if mask is None else (mask > 0.4).double()
    expected = plain_error(kind, logits, target, weight)
    (slope,) = torch.autograd.grad(expected.sum(), logits)
    copy = logits.detach().clone().requires_grad_()
    found = sigmoid_error(copy * 1, target, weight, kind)
    assert torch.allclose(found, expected, rtol=1e-12)
    found.sum().backward()
    assert torch.allclose(copy.grad, slope, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("kind", KINDS)
def test_the_fused_error_passes_gradcheck_also_with_weights_of_bands(kind):
    target, weight = draw(2, 3, 3, 2, seed=1), (draw(2, 1, 3, 2, seed=2) > 0.3).double()
    bands = torch.tensor([0.5, 1.0, 3.0], dtype=torch.float64)

    def function(logits):
        return (sigmoid_error(logits * 1, target, weight, kind) * bands).sum()

    logits = (draw(2, 3, 3, 2) * 4 - 2).requires_grad_()
    assert torch.autograd.gradcheck(function, (logits,))


def test_the_fused_error_goes_piece_by_piece(monkeypatch):
    from geoae_torch import fused

    logits, target = draw(7, 2, 4, 4), draw(7, 2, 4, 4, seed=1)
    whole = sigmoid_error(logits.clone(), target, None, "mae")
    monkeypatch.setattr(fused, "_PIECE", 70)  # two patches, and one at the end
    assert torch.allclose(sigmoid_error(logits.clone(), target, None, "mae"), whole, rtol=1e-14)


def test_bfloat16_logits_lose_no_more_than_their_own_digits():
    logits = (draw(2, 3, 8, 8, dtype=torch.float32) * 4 - 2).bfloat16()
    target = draw(2, 3, 8, 8, seed=1, dtype=torch.float32)
    leaf = logits.clone().requires_grad_()
    found = sigmoid_error(leaf * 1, target, None, "mse")
    assert found.dtype == torch.float32
    assert torch.allclose(found, plain_error("mse", logits.float(), target, None), rtol=1e-5)
    found.sum().backward()
    assert leaf.grad.dtype == torch.bfloat16


def test_who_needs_the_logits_after_all_is_told():
    leaf = draw(1, 1, 2, 2).requires_grad_()
    logits = leaf * 1
    other = logits.square().sum()  # keeps them for its gradient
    loss = sigmoid_error(logits, draw(1, 1, 2, 2, seed=1), None, "mae").sum() + other
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("kind", KINDS)
def test_the_form_for_other_devices_says_the_same(kind):
    logits, target = draw(2, 3, 4, 4) * 2 - 1, draw(2, 3, 4, 4, seed=1)
    weight = (draw(2, 1, 4, 4, seed=2) > 0.5).double()
    expected = plain_error(kind, logits, target, weight)
    assert torch.allclose(image_error(kind, logits.clone(), target, weight, "sigmoid"), expected, rtol=1e-6)
    if kind != "bce":
        image = image_error(kind, torch.sigmoid(logits), target, weight, "linear")
        assert torch.allclose(image, expected, rtol=1e-5)


def test_pixels_that_are_not_known_say_nothing():
    logits, target = torch.zeros(1, 1, 1, 4), torch.tensor([[[[0.0, 1.0, 0.5, 7.0]]]])
    weight = torch.tensor([[[[1.0, 1.0, 1.0, 0.0]]]])
    assert image_error("mae", logits.clone(), target, weight, "sigmoid").item() == pytest.approx(1 / 3)
    nothing = torch.zeros(1, 1, 1, 4)
    assert image_error("mae", logits.clone(), target, nothing, "sigmoid").item() == 0


# --- divergence -------------------------------------------------------------------------------------


def code(mean, log_var=None):
    return Code(torch.as_tensor(mean), None if log_var is None else torch.as_tensor(log_var))


def test_the_divergence_is_that_of_torch():
    mean, log_var = draw(4, 5) * 3 - 1, draw(4, 5, seed=1) * 4 - 2
    normal = torch.distributions.Normal
    expected = torch.distributions.kl_divergence(
        normal(mean, (0.5 * log_var).exp()), normal(torch.zeros(()), torch.ones(()))
    )
    assert torch.allclose(kl_divergence(Code(mean, log_var)), expected.float(), rtol=1e-5)
    with pytest.raises(ValueError, match="not variational"):
        kl_divergence(Code(mean))


def batch_of(n=2, bands=3, side=4):
    image = draw(n, bands, side, side, dtype=torch.float32)
    return Batch(image, image)


@pytest.mark.parametrize(
    ("scale", "kind", "expected"),
    [
        ("thesis", "mae", 1 / 48),
        ("per-latent", "mae", 1 / 2),
        ("calibrated", "mae", 0.25 / 48),
        ("calibrated", "mse", 2 * 0.25 / 48),
        ("calibrated", "bce", 1 / 48),
    ],
)
def test_scales_of_the_divergence(scale, kind, expected):
    """Units of 0.5 and 2 nats in both patches; 48 numbers of a patch; an error of a quarter."""
    batch = batch_of()
    found = code([[1.0, 2.0], [1.0, 2.0]], [[0.0, 0.0]] * 2)
    value, figures = kl_penalty(scale, kind)(batch, found, torch.tensor(0.25))
    assert figures["kl"] == pytest.approx(2.5)
    assert value.item() == pytest.approx(2.5 * expected)
    doubled, _ = kl_penalty(scale, kind, beta=2)(batch, found, torch.tensor(0.25))
    assert doubled.item() == pytest.approx(5 * expected)
    # Of each unit 1 nat is free: the first costs 1, as a constant.
    freed, figures = kl_penalty(scale, kind, free_bits=1)(batch, found, torch.tensor(0.25))
    assert freed.item() == pytest.approx(3 * expected)
    assert figures["kl"] == pytest.approx(2.5)


def test_the_calibrated_loss_has_the_gradient_of_the_likelihood():
    """MAE + MAE.detach() KL / N is, up to a factor, N MAE / b + KL at the b that is likeliest: the MAE."""
    logits = (draw(1, 1, 4, 4) * 2 - 1).float().requires_grad_()
    mean = torch.tensor([[0.7]], requires_grad=True)
    target = draw(1, 1, 4, 4, seed=1).float()
    batch = Batch(target, target)
    objective = Objective("mae", penalties=(kl_penalty("calibrated", "mae"),))
    objective(batch, logits * 1, code(mean, torch.zeros(1, 1))).total.backward()
    b = plain_error("mae", logits, target, None).sum().item()
    likelihood = 16 * plain_error("mae", logits, target, None).sum() / b + 0.5 * mean.square().sum()
    gradients = torch.autograd.grad(likelihood, (logits, mean))
    assert torch.allclose(logits.grad, gradients[0] * b / 16, rtol=1e-4, atol=1e-8)
    assert torch.allclose(mean.grad, gradients[1] * b / 16, rtol=1e-4)


def test_balanced_bands_weigh_the_same_whatever_their_error():
    target = torch.zeros(1, 2, 2, 2)
    logits = torch.tensor([0.0, math.log(3)]).view(1, 2, 1, 1).expand(1, 2, 2, 2).clone().requires_grad_()
    found = Objective("mae", balance=True)(Batch(target, target), logits * 1, code([[0.0]]))
    assert found.parts["mae"].item() == pytest.approx(0.625)  # bands of 0.5 and 0.75
    found.total.backward()
    # d log(error) is the same for both: s (1 - s) / s, times one factor.
    ratio = logits.grad[0, 0, 0, 0] / logits.grad[0, 1, 0, 0]
    assert ratio.item() == pytest.approx((1 - 0.5) / (1 - 0.75))


# --- sparsity and contraction -----------------------------------------------------------------------


def test_sparsity():
    l1, _ = sparsity_penalty("l1", 2.0)(batch_of(), code([[1.0, -3.0], [0.0, 0.0]]), torch.tensor(0.0))
    assert l1.item() == pytest.approx(2.0)
    z = [[0.0, math.log(3)], [0.0, math.log(3)]]  # activities of 0.5 and 0.75
    value, figures = sparsity_penalty("kl", 1.0, activity=0.25)(batch_of(), code(z), torch.tensor(0.0))
    first = 0.25 * math.log(0.25 / 0.5) + 0.75 * math.log(0.75 / 0.5)
    second = 0.25 * math.log(0.25 / 0.75) + 0.75 * math.log(0.75 / 0.25)
    assert value.item() == pytest.approx(first + second, rel=1e-5)
    assert figures["sparsity"].item() == pytest.approx(first + second, rel=1e-5)


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(2, 3, 3, stride=2), torch.nn.SELU(), torch.nn.Flatten(), torch.nn.Linear(12, 4)]
    return torch.nn.Sequential(*layers)


def exact_norm(encoder, image):
    jacobian = torch.func.vmap(torch.func.jacrev(lambda x: encoder(x[None])[0]))(image)
    return jacobian.square().sum() / len(image)


def test_the_jacobian_penalty_is_autograds(encoder):
    image = draw(3, 2, 6, 6, dtype=torch.float32).requires_grad_()
    batch = Batch(image, image)
    value, figures = jacobian_penalty(0.5, probes=None)(batch, Code(encoder(image)), torch.tensor(0.0))
    expected = exact_norm(encoder, image.detach())
    assert value.item() == pytest.approx(0.5 * expected.item(), rel=1e-5)
    assert figures["jacobian"].item() == pytest.approx(expected.item(), rel=1e-5)
    value.backward()
    found = [p.grad.clone() for p in encoder.parameters() if p.grad is not None]
    encoder.zero_grad()
    wanted = torch.autograd.grad(
        0.5 * exact_norm(encoder, image.detach()), list(encoder.parameters()), allow_unused=True
    )
    wanted = [w for w in wanted if w is not None and w.abs().sum() > 0]
    found = [f for f in found if f.abs().sum() > 0]
    assert len(found) == len(wanted) >= 2
    assert all(torch.allclose(f, w, rtol=1e-4, atol=1e-7) for f, w in zip(found, wanted, strict=True))


def test_random_projections_estimate_the_norm_without_bias(encoder):
    image = draw(8, 2, 6, 6, dtype=torch.float32).requires_grad_()
    batch = Batch(image, image, generator=torch.Generator().manual_seed(0))
    penalty = jacobian_penalty(1.0, probes=4)
    values = [penalty(batch, Code(encoder(image)), torch.tensor(0.0))[0].item() for _ in range(60)]
    expected = exact_norm(encoder, image.detach()).item()
    spread = np.std(values) / math.sqrt(len(values))
    assert abs(np.mean(values) - expected) < 4 * spread
    assert spread < 0.05 * expected


def test_nothing_is_differentiated_in_validation(encoder):
    with torch.no_grad():
        batch = batch_of(2, 2, 6)
        value, figures = jacobian_penalty(1.0)(batch, Code(encoder(batch.image)), torch.tensor(0.0))
    assert value.item() == 0
    assert not figures
