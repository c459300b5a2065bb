"""The conformance test itself: sound encoders pass, and each way to break the contract is caught."""

import json
import pickle
import random
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
from pydantic import ConfigDict, Field

from geoae.encoder import Encoder, EncoderConfig, FitContext, FitReport, PatchBatch, PatchSource
from geoae.errors import GeoaeError, PluginError
from geoae.testing import check_encoder


class Sound(Encoder):
    """The smallest encoder that keeps the contract: weighted means of the channels."""

    has_decoder: ClassVar[bool] = True

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(config)
        self.shape: tuple[int, ...] = ()
        self.weights = np.zeros((0, 0), np.float32)  # (channel, latent)

    def fit(self, patches: PatchSource, context: FitContext) -> FitReport:
        if not len(patches):
            raise GeoaeError("no patches to learn from")
        self.shape = (len(patches.channels), *patches.patch_shape)
        rng = np.random.default_rng(self.config.seed)
        self.weights = rng.normal(size=(self.shape[0], self.latent_dim)).astype(np.float32)
        seen = sum(len(batch) for batch in patches.batches(16))
        context.progress("means", seen, len(patches), {})
        return FitReport(patches=seen, metrics={"score": 1.0}, curves={"loss": [2.0, 1.0]})

    def transform(self, batch: PatchBatch) -> Any:
        if batch.image.shape[1:] != self.shape:
            raise ValueError(f"fitted on {self.shape}")
        return np.einsum("ncyx,ck->nk", batch.image, self.weights) / np.float32(batch.image[0].size)

    def reconstruct(self, z: Any) -> Any:
        return np.zeros((len(z), *self.shape), np.float32) + z.mean(axis=1)[:, None, None, None]

    def save(self, folder: Path) -> None:
        content = {"shape": self.shape, "weights": self.weights.tolist()}
        (folder / "weights.json").write_text(json.dumps(content))

    @classmethod
    def load(cls, folder: Path, config: Any) -> Any:
        try:
            content = json.loads((folder / "weights.json").read_text())
        except (OSError, ValueError) as error:
            raise PluginError(f"no weights: {error}") from error
        encoder = cls(config)
        encoder.shape, encoder.weights = tuple(content["shape"]), np.array(content["weights"], np.float32)
        return encoder


def test_a_sound_encoder_passes():
    check_encoder(Sound)
    check_encoder(Sound, config=EncoderConfig(latent_dim=1, seed=7), shapes=[(8, 4, 4)], patches=12)


class NoDefault(EncoderConfig):
    depth: int = Field(description="How deep.")


class NoDescription(EncoderConfig):
    depth: int = 3


class Loose(EncoderConfig):
    model_config = ConfigDict(extra="ignore")


class NotJson(EncoderConfig):
    place: Path | bytes = Field(b"\xff", description="What JSON cannot hold.")


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"contract_version": 0}, "written for version 0"),
        ({"Config": NoDefault}, "option depth has no default"),
        ({"Config": NoDescription}, "option depth has no description"),
        ({"Config": Loose}, "not frozen or accepts unknown options"),
        ({"Config": NotJson}, "do not survive JSON"),
        ({"normalisation": "quantile"}, "neither standard nor unit"),
        ({"reconstruct": Encoder.reconstruct}, "reconstruct is not implemented"),
    ],
)
def test_a_class_that_breaks_the_contract_is_caught(attributes, message):
    broken = type("Broken", (Sound,), attributes)
    with pytest.raises(PluginError, match=message):
        check_encoder(broken)


def test_what_is_no_encoder_is_caught():
    with pytest.raises(PluginError, match="no subclass of geoae"):
        check_encoder(dict)


# --- what fit and transform may do wrong -----------------------------------------------------------


class FitRaises(Sound):
    expected = "fit raised KeyError: 'optimiser'"

    def fit(self, patches, context):
        super().fit(patches, context)
        raise KeyError("optimiser")


class FitReturnsNothing(Sound):
    expected = "fit returns NoneType"

    def fit(self, patches, context):
        super().fit(patches, context)


class ReportsNaN(Sound):
    expected = "no finite number"

    def fit(self, patches, context):
        report = super().fit(patches, context)
        return FitReport(report.patches, {"score": float("nan")})


class SkipsPatches(Sound):
    expected = "fit reports 7 patches of 40"

    def fit(self, patches, context):
        super().fit(patches, context)
        return FitReport(patches=7)


class Overshoots(Sound):
    expected = "progress is called with"

    def fit(self, patches, context):
        context.progress("epoch", 3, 2, {})
        return super().fit(patches, context)


class KeepsACall(Sound):
    """Computes in memory of its own, which another thread may overwrite."""

    expected = "threads get other numbers than one alone"

    def single_threaded(self):
        return nullcontext()

    def transform(self, batch):
        self.z = super().transform(batch)
        time.sleep(1e-3)
        return self.z


class TooLong(Sound):
    expected = "latent_dim is 9 after fit, of 4 asked for"
    latent_dim = 9


class SeedsTheWorld(Sound):
    expected = "global random state"

    def fit(self, patches, context):
        np.random.seed(0)  # noqa: NPY002 (the fault)
        return super().fit(patches, context)


class DrawsFromTheWorld(Sound):
    expected = "global random state"

    def fit(self, patches, context):
        random.random()
        return super().fit(patches, context)


class Unseeded(Sound):
    expected = "equal seeds give different latent vectors"

    def fit(self, patches, context):
        report = super().fit(patches, context)
        self.weights = self.weights + np.random.default_rng().normal(size=self.weights.shape).astype("f4")
        return report


class GoesOn(Sound):
    expected = "fitting twice gives other latent vectors"

    def fit(self, patches, context):
        before = self.weights.sum()
        report = super().fit(patches, context)
        self.weights = self.weights + before
        return report


class WrongShape(Sound):
    expected = r"transform returns shape \(40, 5\), expected \(40, 4\)"

    def transform(self, batch):
        return np.pad(super().transform(batch), ((0, 0), (0, 1)))


class TooFewRows(Sound):
    expected = r"transform returns shape \(39, 4\), expected \(40, 4\)"

    def transform(self, batch):
        return super().transform(batch)[1:]


class WrongDtype(Sound):
    expected = "transform returns float64, expected float32"

    def transform(self, batch):
        return super().transform(batch).astype(np.float64)


class ReturnsLists(Sound):
    expected = "transform returns list, not a numpy array"

    def transform(self, batch):
        return super().transform(batch).tolist()


class NaNForEmpty(Sound):
    expected = r"NaN or infinity for patches \[0\]"

    def transform(self, batch):
        count = batch.valid.sum(axis=(1, 2, 3))[:, None].astype("f4")
        with np.errstate(invalid="ignore", divide="ignore"):
            return super().transform(batch) / count


class NaNForConstant(Sound):
    expected = r"NaN or infinity for patches \[0, 1\]"

    def transform(self, batch):
        with np.errstate(invalid="ignore", divide="ignore"):
            return super().transform(batch) / batch.image.std(axis=(1, 2, 3))[:, None]


class TransformRaises(Sound):
    expected = "transform raised IndexError: nowhere"

    def transform(self, batch):
        super().transform(batch)
        raise IndexError("nowhere")


class BatchStatistics(Sound):
    expected = "depends on the batch: one patch at a time"

    def transform(self, batch):
        z = super().transform(batch)
        return z - z.mean(axis=0)


class OrderMatters(Sound):
    expected = "depends on the batch"

    def transform(self, batch):
        return super().transform(batch) * np.linspace(1, 2, len(batch), dtype=np.float32)[:, None]


class LooksAtTheIndex(Sound):
    expected = "depends on the batch"

    def transform(self, batch):
        return super().transform(batch) + batch.index[:, None].astype(np.float32)


class NeedsManyPatches(Sound):
    expected = r"transform returns shape \(4,\), expected \(1, 4\)"

    def transform(self, batch):
        return super().transform(batch).squeeze()


class ChangesTheBatch(Sound):
    expected = "changes the batch"

    def transform(self, batch):
        z = super().transform(batch)
        batch.image[...] = 0
        return z


class WritesToTheMask(Sound):
    expected = "transform raised ValueError: assignment destination is read-only"

    def transform(self, batch):
        batch.valid[...] = batch.valid
        return super().transform(batch)


class AnotherZ(Sound):
    expected = "z of variables is not what transform returns"

    def variables(self, batch):
        return {"z": self.transform(batch) + np.float32(1)}


class WrongVariable(Sound):
    expected = "variables: log_var returns shape"

    def variables(self, batch):
        return {"z": self.transform(batch), "log_var": np.zeros((len(batch), 1), np.float32)}


class AcceptsOtherChannels(Sound):
    expected = "transform accepts more channels than fit saw"

    def transform(self, batch):
        image = batch.image[:, : self.shape[0]]
        return np.einsum("ncyx,ck->nk", image, self.weights) / np.float32(image[0, 0].size)


class RefusesObscurely(Sound):
    expected = "more channels: transform raised KeyError, expected ValueError"

    def transform(self, batch):
        if batch.image.shape[1:] != self.shape:
            raise KeyError(batch.image.shape)
        return super().transform(batch)


class WrongReconstruction(Sound):
    expected = r"reconstruct returns shape \(40, 3, 15, 16\)"

    def reconstruct(self, z):
        return super().reconstruct(z)[:, :, 1:]


# --- what save and load may do wrong ---------------------------------------------------------------


class SavesBeside(Sound):
    expected = "save writes outside the folder"

    def save(self, folder):
        super().save(folder)
        (folder.parent / "log.txt").write_text("done")


class Pickles(Sound):
    expected = "save writes a pickle"

    def save(self, folder):
        super().save(folder)
        (folder / "more.bin").write_bytes(pickle.dumps(self.weights))


class Forgets(Sound):
    expected = "save and load change the latent vectors"

    @classmethod
    def load(cls, folder, config):
        encoder = super().load(folder, config)
        encoder.weights = encoder.weights + np.float32(1)
        return encoder


class LoadsOptions(Sound):
    expected = "with the options that it was given"

    @classmethod
    def load(cls, folder, config):
        return super().load(folder, config.model_copy(update={"seed": 99}))


class LoadsAnyLength(Sound):
    expected = "the latent size is 4 after load, was 3"

    @property
    def latent_dim(self):
        return getattr(self, "size", 4)

    def fit(self, patches, context):
        self.size = 3
        return super().fit(patches, context)


class SavesTheTime(Sound):
    expected = "an encoder that was loaded saves other bytes"
    count = 0

    def save(self, folder):
        super().save(folder)
        SavesTheTime.count += 1
        (folder / "count").write_text("saved " + "again " * SavesTheTime.count)


class LoadRaisesObscurely(Sound):
    expected = "load raised FileNotFoundError with weights.json missing, expected PluginError"

    @classmethod
    def load(cls, folder, config):
        (folder / "weights.json").read_text()
        return super().load(folder, config)


class LoadsAnything(Sound):
    expected = "load accepts a model with more.bin cut off"

    def save(self, folder):
        super().save(folder)
        (folder / "more.bin").write_bytes(bytes(100))

    @classmethod
    def load(cls, folder, config):
        if not (folder / "more.bin").exists():
            raise PluginError("more.bin is missing")
        return super().load(folder, config)


class StumblesOnNothing(Sound):
    expected = "fit on no patch raised ZeroDivisionError: .*, expected GeoaeError"

    def fit(self, patches, context):
        1 / len(patches)
        return super().fit(patches, context)


class StumblesOnOne(Sound):
    expected = "transform returns NaN or infinity"

    def fit(self, patches, context):
        report = super().fit(patches, context)
        if len(patches) == 1:
            self.weights = self.weights * np.float32("nan")
        return report


CAUGHT = sorted(
    (kind for kind in Sound.__subclasses__() if hasattr(kind, "expected")), key=lambda kind: kind.__name__
)


@pytest.mark.parametrize("kind", CAUGHT)
def test_an_encoder_that_breaks_the_contract_is_caught(kind):
    with pytest.raises(PluginError, match=kind.expected) as caught:
        check_encoder(kind)
    assert kind.__name__ in str(caught.value)
    assert "\n" not in str(caught.value)


def test_randomness_is_allowed_where_it_is_declared():
    check_encoder(type("Declared", (Unseeded,), {"deterministic": False}))


class Options(EncoderConfig):
    kind: Literal["a", "b"] = Field("a", description="A choice.")


def test_options_of_its_own_are_no_fault():
    check_encoder(type("WithOptions", (Sound,), {"Config": Options}))
