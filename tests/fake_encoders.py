"""Encoders that keep the contract, and encoders that each break one promise of it."""

# ruff: noqa: ARG002, ARG003 (the contract says what is passed, whether it is used or not)

import threading
import time
from contextlib import nullcontext
from pathlib import Path
from typing import ClassVar

import numpy as np

from geoae.encoder import Encoder, FitReport
from geoae.errors import InputError

DISTRIBUTION = "fake-encoders"


class Means(Encoder):
    """Keeps the contract: the means of the channels, as often as the latent size asks for."""

    def fit(self, patches, context):
        self.channels = len(patches.channels)
        seen = 0
        for batch in patches.batches(7):
            seen += len(batch)
            context.progress("means", seen, len(patches), {})
        return FitReport(patches=seen, metrics={"seen": float(seen)})

    def transform(self, batch):
        means = batch.image.mean(axis=(2, 3))
        return np.resize(means.T, (self.latent_dim, len(batch))).T.astype(np.float32)

    def save(self, folder):
        (folder / "means.txt").write_text("nothing was learned")

    @classmethod
    def load(cls, folder, config):
        (folder / "means.txt").read_text()
        return cls(config)


class Constant(Means):
    """Keeps the contract and has a decoder: every image is predicted as one half everywhere."""

    has_decoder: ClassVar[bool] = True
    normalisation = "unit"

    def fit(self, patches, context):
        super().fit(patches, context)
        self.shape = (len(patches.channels), *patches.patch_shape)
        return FitReport(patches=len(patches))

    def reconstruct(self, z):
        return np.full((len(z), *self.shape), 0.5, np.float32)

    def save(self, folder):
        (folder / "means.txt").write_text(" ".join(map(str, self.shape)))

    @classmethod
    def load(cls, folder, config):
        encoder = cls(config)
        encoder.shape = tuple(int(n) for n in (folder / "means.txt").read_text().split())
        return encoder


class Threaded(Constant):
    """Keeps the contract and lets threads encode at a time; `most` says how many did."""

    inside, most, seen = 0, 0, []
    lock = threading.Lock()

    def single_threaded(self):
        return nullcontext()

    def transform(self, batch):
        kind = type(self)
        with self.lock:
            kind.inside += 1
            kind.most = max(kind.most, kind.inside)
            kind.seen = [*kind.seen, batch.index]
        time.sleep(0.02)
        with self.lock:
            kind.inside -= 1
        return super().transform(batch)


class OneAtATime(Threaded):
    """The same, but for the leave to call it from several threads."""

    def single_threaded(self):
        return None


class RaisesInAThread(Threaded):
    def transform(self, batch):
        if (batch.index > 100).any():
            raise RuntimeError("patch beyond 100")
        return super().transform(batch)


class Half(Constant):
    """Keeps the contract: one half everywhere in the channels of the target; a log and a checkpoint."""

    def fit(self, patches, context):
        for batch in patches.batches(5, shuffle_seed=0):
            target = batch.image if batch.target is None else batch.target
            assert target.shape[1] == len(patches.target_channels)
        self.shape = (len(patches.target_channels), *patches.patch_shape)
        self.channels = len(patches.channels)
        (context.folder / "logs").mkdir()
        (context.folder / "logs" / "log.jsonl").write_text("{}\n")
        (context.folder / "last").write_text("much")
        return FitReport(patches=len(patches))

    def use_device(self, device):
        if device not in ("auto", "cpu"):
            raise InputError(f"no {device}")


class WrongShape(Means):
    def transform(self, batch):
        return super().transform(batch)[:, :-1]


class TooFewRows(Means):
    def transform(self, batch):
        return super().transform(batch)[:-1]


class WrongType(Means):
    def transform(self, batch):
        return super().transform(batch).astype(np.float64)


class NotFinite(Means):
    def transform(self, batch):
        z = super().transform(batch)
        z[len(z) // 2, 0] = np.nan
        return z


class NoArray(Means):
    def transform(self, batch):
        return super().transform(batch).tolist()


class NoLatents(Means):
    def variables(self, batch):
        return {"latents": self.transform(batch)}


class RaisesInFit(Means):
    def fit(self, patches, context):
        raise ZeroDivisionError("no variance\nin the second line")


class RaisesInTransform(Means):
    def transform(self, batch):
        raise KeyError("weights")


class RaisesLater(Means):
    """Fails on a patch of the second half only."""

    def transform(self, batch):
        if (batch.index > 100).any():
            raise RuntimeError("patch beyond 100")
        return super().transform(batch)


class RaisesInSave(Means):
    def save(self, folder):
        raise TypeError


class RaisesInLoad(Means):
    @classmethod
    def load(cls, folder, config):
        raise AttributeError("no such weights")


class RaisesInReconstruct(Constant):
    def reconstruct(self, z):
        raise ValueError("wrong decoder")


class WrongImage(Constant):
    def reconstruct(self, z):
        return super().reconstruct(z)[:, :, :-1]


class NoReport(Means):
    def fit(self, patches, context):
        return None


class OddReport(Means):
    """Keeps the contract, with figures that JSON does not know."""

    def fit(self, patches, context):
        return FitReport(
            patches=np.int64(len(patches)),
            metrics={"loss": float("nan"), "rate": np.float32(0.5)},
            curves={"loss": [1.0, float("inf")]},
        )


class WrongReport(Means):
    def fit(self, patches, context):
        return FitReport(patches=len(patches), metrics={"loss": "small"})


class ReportsProgressOddly(Means):
    def fit(self, patches, context):
        context.progress("odd", 0, 0, {})
        context.progress("odd", 5, 3, {"loss": float("nan")})
        return FitReport(patches=len(patches))


def lay(folder: Path, **more: str) -> Path:
    """Install all of them below a folder, as pip would; put it and this folder on the import path.

    `more` are entry points by name, such as ``broken="no_such_module:Encoder"``.
    """
    names = [n for n, kind in globals().items() if isinstance(kind, type) and kind is not Encoder]
    points = {name.lower(): f"fake_encoders:{name}" for name in names if issubclass(globals()[name], Means)}
    info = folder / "fake_encoders-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {DISTRIBUTION}\nVersion: 1.0\n")
    lines = [f"{name} = {target}" for name, target in {**points, **more}.items()]
    (info / "entry_points.txt").write_text("[geoae.encoders]\n" + "\n".join(lines) + "\n")
    return folder
