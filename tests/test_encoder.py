"""The plugin contract's own behaviour; what plugins must do is proven by `check_encoder`."""

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from geoae.encoder import (
    CONTRACT_VERSION,
    Channel,
    Encoder,
    EncoderConfig,
    FitContext,
    FitReport,
    PatchBatch,
    PatchSource,
)


class MeanConfig(EncoderConfig):
    power: float = 1.0


class MeanEncoder(Encoder):
    """The mean of each channel: the smallest encoder there is."""

    Config = MeanConfig

    def fit(self, patches, context):  # noqa: ARG002 (the contract's signature)
        return FitReport(patches=len(patches))

    def transform(self, batch):
        return batch.image.mean(axis=(2, 3))

    def save(self, folder: Path) -> None:
        pass

    @classmethod
    def load(cls, folder, config):  # noqa: ARG003 (the contract's signature)
        return cls(config)


def batch_of(n: int = 2) -> PatchBatch:
    image = np.arange(n * 4, dtype=np.float32).reshape(n, 1, 2, 2)
    return PatchBatch(np.arange(n), image, np.ones_like(image, bool))


def test_the_smallest_encoder():
    encoder = MeanEncoder(MeanConfig(latent_dim=1))
    assert encoder.contract_version == CONTRACT_VERSION == 1
    assert encoder.latent_dim == 1
    assert encoder.variables(batch_of())["z"].tolist() == [[1.5], [5.5]]


def test_an_encoder_without_decoder_says_so():
    with pytest.raises(NotImplementedError, match="MeanEncoder has no decoder"):
        MeanEncoder(MeanConfig()).reconstruct(np.zeros((1, 1), np.float32))


def test_options_of_another_encoder_are_refused():
    with pytest.raises(TypeError, match="MeanConfig"):
        MeanEncoder(EncoderConfig())


@pytest.mark.parametrize(
    "options",
    [{"latent_dim": 0}, {"seed": -1}, {"unknown": 1}, {"power": float("nan")}, {"power": float("inf")}],
)
def test_bad_options_are_refused(options):
    with pytest.raises(ValidationError):
        MeanConfig(**options)


def test_options_cannot_be_changed_afterwards():
    with pytest.raises(ValidationError):
        MeanConfig().seed = 3


def test_an_incomplete_encoder_cannot_be_made():
    class Half(Encoder):
        def transform(self, batch):
            return batch.image

    with pytest.raises(TypeError, match="abstract"):
        Half(EncoderConfig())


def test_channels_have_short_names():
    assert str(Channel("msi", "red")) == "msi.red"
    assert str(Channel("agl", "agl", "m")) == "agl"


def test_a_source_is_recognised_by_what_it_can_do():
    class Source:
        channels = target_channels = (Channel("rgb", "red"),)
        patch_shape = (2, 2)

        def __len__(self):
            return 2

        def batches(self, size, shuffle_seed=None):  # noqa: ARG002 (the contract's signature)
            yield batch_of()

    assert isinstance(Source(), PatchSource)
    assert not isinstance(object(), PatchSource)
    assert len(batch_of(3)) == 3
    assert FitContext().progress("fit", 0, 1, {}) is None
