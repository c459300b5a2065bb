"""Principal axes beside a network: those of scikit-learn, and what training begins with."""

import numpy as np
import pytest
from sklearn.decomposition import PCA

torch = pytest.importorskip("torch", reason="needs the extra [torch]")

from geoae.encoder import FitContext  # noqa: E402
from geoae.errors import UsageError  # noqa: E402
from geoae.registry import load_encoder, parse_options  # noqa: E402
from geoae.testing import ArrayPatches, synthetic_patches  # noqa: E402
from geoae_torch.axes import PrincipalAxes, find_axes  # noqa: E402
from geoae_torch.corruption import turn  # noqa: E402
from geoae_torch.description import load_architecture, parse_architecture  # noqa: E402
from geoae_torch.feed import ResidentFeed  # noqa: E402
from geoae_torch.networks import build  # noqa: E402
from geoae_torch.shapes import plan  # noqa: E402
from geoae_torch.sizes import smaller  # noqa: E402

CPU = torch.device("cpu")
SHAPE = (3, 16, 16)


@pytest.fixture(scope="module")
def images():
    """Smooth patches in 0..1, lit from one side: turning them makes other patches."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:16, :16] / 16
    waves = np.stack([np.cos(np.pi * (i * y + j * x)) for i in range(4) for j in range(4)])
    weights = rng.normal(size=(60, 3, 16)) / (1 + np.arange(16))
    noise = rng.normal(size=(60, *SHAPE))
    found = 0.5 + 0.1 * np.einsum("nck,kyx->ncyx", weights, waves) + 0.1 * x + 0.01 * noise
    return found.astype(np.float32)


def fitted(images, latent_dim, *, turned=False, target=None):
    source = ArrayPatches(images, target=target)
    bands = images.shape[1] if target is None else target.shape[1]
    axes = PrincipalAxes(images.shape[2:], images.shape[1], bands, latent_dim)
    return axes, axes.fit(ResidentFeed(source, CPU), turned=turned)


def as_rows(images):
    return images.transpose(0, 2, 3, 1).reshape(len(images), -1)


@pytest.mark.parametrize("latent_dim", [5, 59])
def test_the_axes_are_those_of_scikit_learn(images, latent_dim):
    axes, _ = fitted(images, latent_dim)
    known = PCA(latent_dim, svd_solver="full").fit(as_rows(images).astype(np.float64))
    expected = known.inverse_transform(known.transform(as_rows(images)))
    z = axes.encode(torch.from_numpy(images))
    assert np.allclose(as_rows(axes.decode(z).numpy()), expected, atol=5e-5)
    assert np.allclose(np.cov(z.numpy().T, bias=True), np.eye(latent_dim), atol=1e-3)


def test_axes_that_are_searched_for_leave_no_more_error(images):
    """40 of 768 numbers, of which half are noise: by iteration, the same at every time."""
    (axes, _), (again, _) = fitted(images, 40), fitted(images, 40)
    assert torch.equal(axes.down, again.down)
    known = PCA(40, svd_solver="full").fit(as_rows(images).astype(np.float64))
    expected = np.square(known.inverse_transform(known.transform(as_rows(images))) - as_rows(images)).sum()
    found = np.square(axes.decode(axes.encode(torch.from_numpy(images))).numpy() - images).sum()
    assert expected <= found * (1 + 1e-5) <= 1.001 * expected


@pytest.mark.parametrize("width", [16, 8])
def test_turned_patches_count_without_being_seen(images, width):
    """Turns make pairs of axes of equal variance, which may be mixed: what they leave is compared."""
    patches = torch.from_numpy(images[..., :width].copy())
    turns = 8 if width == 16 else 4  # a quarter turn changes the shape of an oblong patch
    every = torch.cat([turn(patches, v) for v in range(turns)])

    def lost_by(axes):
        return float((axes.decode(axes.encode(every)) - every).square().sum())

    quick, explicit, unturned = (
        lost_by(fitted(each.numpy(), 6, turned=turned)[0])
        for each, turned in ((patches, True), (every, False), (patches, False))
    )
    assert quick == pytest.approx(explicit, rel=1e-5)
    assert unturned > 1.05 * quick


def test_another_target_is_regressed_on_the_code(images):
    grey = images.mean(1, keepdims=True)
    axes, _ = fitted(grey, 7, target=images)
    z = axes.encode(torch.from_numpy(grey)).numpy()
    design = np.column_stack([z, np.ones(len(z))])
    expected = design @ np.linalg.lstsq(design, as_rows(images), rcond=None)[0]
    assert np.allclose(as_rows(axes.decode(torch.from_numpy(z)).numpy()), expected, atol=1e-4)


def test_large_patches_are_made_smaller_and_larger_again_as_torch_does():
    images = torch.rand(2, 3, 128, 96)
    axes = PrincipalAxes((128, 96), 3, 3, 4)
    assert axes.inner == (32, 24) == smaller((128, 96), 3)
    expected = torch.nn.functional.avg_pool2d(images, 4)
    axes.down.copy_(torch.eye(4, axes.down.shape[1]))
    assert torch.allclose(axes.encode(images), expected.permute(0, 2, 3, 1).flatten(1)[:, :4], atol=1e-6)
    axes.output_mean.copy_(expected[0].permute(1, 2, 0).flatten())
    larger = torch.nn.functional.interpolate(expected[:1], (128, 96), mode="bilinear")
    assert torch.allclose(axes.decode(torch.zeros(1, 4)), larger, atol=1e-6)


def test_patches_that_leave_nothing_to_explain():
    """Constant ones, and fewer than units: the units that are left are silent."""
    axes, variance = fitted(np.full((6, 2, 8, 8), 0.25, np.float32), 4)
    assert not axes.down.any()
    assert torch.allclose(variance, torch.ones(4, dtype=variance.dtype))
    axes, variance = fitted(synthetic_patches(3, (2, 8, 8)).batch().image, 6)
    assert (axes.down.abs().sum(1) > 0).tolist() == [True, True, False, False, False, False]
    assert torch.isfinite(variance).all()


def test_a_network_begins_as_its_axes_and_its_variance_is_the_best(images):
    """No other constant variance has a smaller sum of error and divergence, as probabilistic PCA says."""
    sizes = plan(load_architecture("principal"), patch=16, bands=3, latent_dim=6)
    network = build(sizes, seed=0).requires_grad_(False)
    feed = ResidentFeed(ArrayPatches(images), CPU)
    find_axes(network, feed, turned=False, seed=0)
    seen = torch.from_numpy(images)
    code = network.encode(seen)
    assert torch.equal(code.mean, network.axes.encode(seen))
    assert torch.equal(network.decode(code.mean), network.axes.decode(code.mean))
    error = float((network.decode(code.mean) - seen).square().mean())
    gain = network.axes.up.square().sum(1).double()

    def bound(log_var):
        """Nats, of normal errors of the width that the axes leave, and noise of this variance."""
        return (gain * log_var.exp()).sum() / (2 * error) + 0.5 * (log_var.exp() - log_var).sum()

    best = code.log_var[0].double()
    for change in (-0.1, 0.1):
        assert bound(best) < bound(best + change)
    assert torch.allclose(code.log_var, code.log_var[:1].expand_as(code.log_var))


@pytest.mark.parametrize("patch", [16, 45, 128])
def test_the_decoders_layers_add_to_the_smaller_image_of_the_axes(patch):
    sizes = plan(load_architecture("principal"), patch=patch, bands=3, latent_dim=4)
    side = min(patch, 32) if patch != 45 else 22
    assert sizes.picture == smaller((patch, patch), 3) == (side, side)
    assert sizes.decoder[0].inputs == sizes.decoder[-1].outputs == (side, side, 3)
    network = build(sizes, seed=0).requires_grad_(False)
    rng = torch.Generator().manual_seed(0)
    z = torch.randn(2, 4, generator=rng)
    network.axes.up.normal_(generator=rng)
    network.axes.scale.fill_(0.5)
    assert torch.equal(network.decode(z), network.axes.decode(z))
    network.decoder[sizes.architecture.output_place].body.bias.copy_(torch.tensor([0.1, 0.2, 0.3]))
    added = network.decode(z) - network.axes.decode(z)
    assert added.shape == (2, 3, patch, patch)
    assert torch.allclose(added, torch.tensor([0.05, 0.1, 0.15])[:, None, None].expand_as(added), atol=1e-5)


def test_the_first_steps_do_not_throw_the_codes_about():
    """Adam's first step moves all weights of a head by the rate: here of 8192."""
    rng = np.random.default_rng(0)
    patches = np.clip(0.5 + 0.2 * rng.normal(size=(8, 3, 4, 4)), 0, 1).astype(np.float32)
    patches = patches.repeat(32, axis=2).repeat(32, axis=3)
    encoder = load_encoder("vae")(parse_options(load_encoder("vae"), {"latent_dim": 4, "steps": 1}))
    encoder.fit(ArrayPatches(patches), FitContext(device="cpu"))
    network, seen = encoder._network, torch.from_numpy(patches)
    with torch.no_grad():
        moved = network.encode(seen).mean - network.axes.encode(seen)
    assert 0 < float(moved.abs().max()) < 0.3


def test_training_gains_on_the_axes_and_leaves_them(images):
    kind = load_encoder("vae")
    options = {"latent_dim": 4, "steps": 150, "augment": False}
    encoder = kind(parse_options(kind, options))
    report = encoder.fit(ArrayPatches(images), FitContext(device="cpu"))
    network = encoder._network
    axes, _ = fitted(images, 4)
    assert torch.equal(network.axes.down, axes.down)
    alone = np.abs(axes.decode(axes.encode(torch.from_numpy(images))).numpy() - images).mean()
    assert report.metrics["mae"] < alone
    trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
    assert trained == network.plan.parameters == report.metrics["parameters"]


@pytest.mark.parametrize("change", [("linear", "sigmoid"), ("kind: dense", "kind: map")])
def test_axes_need_a_dense_code_and_a_linear_image(change):
    text = (
        "name: mine\nprincipal_axes: true\nlatent_dim: 3\ncode: {kind: dense}\n"
        "encoder: [{layer: flatten}]\n"
        "decoder: [{layer: dense, activation: linear}, {layer: reshape, channels: bands}]\n"
    )
    parse_architecture(text, "mine")
    with pytest.raises(UsageError, match="principal_axes need a dense code"):
        parse_architecture(text.replace(*change), "mine")
