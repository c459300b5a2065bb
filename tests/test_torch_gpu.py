"""What changes on a GPU. Skipped without one; the same paths run on the CPU in the other files."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra [torch]")
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

from geoae.encoder import FitContext  # noqa: E402
from geoae.registry import load_encoder, parse_options  # noqa: E402
from geoae.testing import synthetic_patches  # noqa: E402
from geoae_torch.feed import ResidentFeed, StreamFeed, make_feed  # noqa: E402

SHAPE = (3, 32, 32)
NAMES = ("vae", "conv-ae", "denoising-ae", "sparse-ae", "contractive-ae", "dense-ae")


def fitted(name, folder=None, **options):
    kind = load_encoder(name)
    encoder = kind(parse_options(kind, {"latent_dim": 8, "steps": 40, **options}))
    context = FitContext(validation=synthetic_patches(16, SHAPE, seed=1), folder=folder, device="cuda")
    return encoder, encoder.fit(synthetic_patches(100, SHAPE), context)


@pytest.mark.parametrize("name", NAMES)
def test_a_network_trained_on_a_gpu_gives_the_same_latents_on_the_cpu(name, tmp_path):
    encoder, _ = fitted(name, tmp_path)
    batch = synthetic_patches(20, SHAPE, seed=2).batch()
    z = encoder.transform(batch)
    (tmp_path / "model").mkdir()
    encoder.save(tmp_path / "model")
    loaded = type(encoder).load(tmp_path / "model", encoder.config)
    assert np.allclose(loaded.transform(batch), z, atol=1e-2 * np.abs(z).max())
    loaded.use_device("cuda")
    assert np.allclose(loaded.transform(batch), z, atol=1e-5 * np.abs(z).max())


def test_equal_seeds_give_equal_bytes_in_deterministic_mode():
    batch = synthetic_patches(20, SHAPE, seed=2).batch()
    first, second = (fitted("vae", deterministic=True)[0].transform(batch) for _ in range(2))
    assert first.tobytes() == second.tobytes()


def test_patches_stay_on_the_gpu_where_they_fit():
    source, device = synthetic_patches(30, SHAPE), torch.device("cuda")
    feed = make_feed(source, device)
    assert isinstance(feed, ResidentFeed)
    assert isinstance(make_feed(source, device, limit=1000), StreamFeed)
    streamed = list(StreamFeed(source, device).batches(7))
    for found, expected in zip(feed.batches(7), streamed, strict=True):
        assert found.image.is_cuda
        assert torch.equal(found.image, expected.image)
