"""Compute what Keras gives for networks of the reference documents, for the tests that compare with it.

Run once, with TensorFlow in an environment of its own; the tests need none of it::

    python -m venv keras-venv
    keras-venv/bin/pip install "tensorflow-cpu==2.21.*"
    keras-venv/bin/python scripts/keras_fixtures.py tests/data/keras

The models are written from the documents' own listings, with nothing of geoae, at a small latent size and,
where it is enough, on small patches. Weights and inputs come from numpy's generator with a fixed seed, so
that the tests draw them again and only outputs are stored.
"""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before TensorFlow is imported
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

import keras
from keras import layers as kl

SEED = 20190801
LATENT = 16


def thesis(encoder: list, decoder: list, patch: int) -> tuple[keras.Model, keras.Model]:
    """Put two heads on the flattened map, and a linear dense layer before the way back."""
    images = keras.Input((patch, patch, 3))
    x = images
    for layer in encoder:
        x = layer(x)
    shape = x.shape[1:]
    x = kl.Flatten()(x)
    front = keras.Model(images, [kl.Dense(LATENT)(x), kl.Dense(LATENT)(x)])
    code = keras.Input((LATENT,))
    x = kl.Reshape(shape)(kl.Dense(int(np.prod(shape)))(code))
    for layer in decoder:
        x = layer(x)
    return front, keras.Model(code, x)


def conv(filters: int, stride: int = 2, kernel: int = 3) -> kl.Layer:
    """Make a convolution of the thesis."""
    return kl.Conv2D(filters, kernel, strides=stride, padding="same", activation="selu")


def deconv(filters: int, stride: int = 2, kernel: int = 3, activation: str = "selu") -> kl.Layer:
    """Make a deconvolution of the thesis."""
    return kl.Conv2DTranspose(filters, kernel, strides=stride, padding="same", activation=activation)


def last(kernel: int = 3) -> kl.Layer:
    """Make the thesis' last layer."""
    return deconv(3, 2, kernel, "sigmoid")


def a1() -> tuple[keras.Model, keras.Model]:
    """Use six strided convolutions."""
    widths = (8, 16, 32, 64, 128, 256)
    return thesis([conv(f) for f in widths], [*(deconv(f) for f in widths[-2::-1]), last()], 128)


def a8() -> tuple[keras.Model, keras.Model]:
    """Use three strided convolutions."""
    return thesis([conv(8), conv(16), conv(32)], [deconv(16), deconv(8), last()], 64)


def a9() -> tuple[keras.Model, keras.Model]:
    """Put three more convolutions in the middle."""
    middle = [conv(16, 1), conv(16, 1), conv(16, 1)]
    back = [deconv(16, 1), deconv(16, 1), deconv(16, 1)]
    return thesis([conv(8), conv(16), *middle, conv(32)], [deconv(16), *back, deconv(8), last()], 64)


def a13() -> tuple[keras.Model, keras.Model]:
    """Use average pooling."""
    encoder = [layer for f in (16, 32, 64) for layer in (conv(f, 1), kl.AveragePooling2D(2))]
    return thesis(encoder, [deconv(32), deconv(16), last()], 64)


def a14() -> tuple[keras.Model, keras.Model]:
    """Use maximum pooling."""
    encoder = [layer for f in (8, 16, 32) for layer in (conv(f, 1), kl.MaxPooling2D(2))]
    return thesis(encoder, [deconv(16), deconv(8), last()], 64)


def a16() -> tuple[keras.Model, keras.Model]:
    """Use five strided convolutions of 5 x 5."""
    widths = (8, 16, 32, 64, 128)
    decoder = [*(deconv(f, kernel=5) for f in widths[-2::-1]), last(5)]
    return thesis([conv(f, kernel=5) for f in widths], decoder, 64)


def a18() -> tuple[keras.Model, keras.Model]:
    """Put a plain convolution before every strided one."""
    encoder = [conv(f, stride) for f in (8, 16, 32) for stride in (1, 2)]
    return thesis(encoder, [deconv(16), deconv(8), last()], 64)


def harwood() -> tuple[keras.Model, keras.Model]:
    """Follow the slides' tables; 64 numbers at 64 x 64 pixels are 8 x 8 x 1."""

    def selu(filters: int) -> kl.Layer:
        return kl.Conv2D(filters, 3, padding="same", activation="selu")

    front = keras.Sequential([keras.Input((64, 64, 3))])
    for filters in (32, 64, 128, 256):
        front.add(selu(filters))
        front.add(kl.MaxPooling2D(2))
    front.add(selu(512))
    front.add(kl.GlobalMaxPooling2D())
    front.add(kl.Dense(64, activation="selu"))
    back = keras.Sequential([keras.Input((64,)), kl.Reshape((8, 8, 1))])
    for filters in (512, 256, 128):
        back.add(selu(filters))
        back.add(kl.UpSampling2D(2))
    for filters in (64, 32):
        back.add(selu(filters))
    back.add(kl.Conv2D(3, 3, padding="same", activation="sigmoid"))
    return front, back


def platos() -> tuple[keras.Model, keras.Model]:
    """Follow the slides' listing, cut at its 128 values."""
    front = keras.Sequential([keras.Input((28, 28, 1))])
    for filters in (64, 32, 8):
        front.add(kl.Conv2D(filters, (3, 3), activation="relu", padding="same"))
        front.add(kl.MaxPooling2D((2, 2), padding="same"))
    back = keras.Sequential([keras.Input((4, 4, 8))])
    for filters, padding in ((8, "same"), (32, "same"), (64, "valid")):
        back.add(kl.Conv2D(filters, (3, 3), activation="relu", padding=padding))
        back.add(kl.UpSampling2D((2, 2)))
    back.add(kl.Conv2D(1, (3, 3), activation="sigmoid", padding="same"))
    return front, back


def report_encoder(widths: tuple[int, ...]) -> keras.Sequential:
    """Make pairs of normalised convolutions and pools."""
    front = keras.Sequential([keras.Input((64, 64, 3))])
    for filters in widths:
        for _ in range(2):
            front.add(kl.Conv2D(filters, (3, 3), activation="relu", padding="same"))
            front.add(kl.BatchNormalization())
        front.add(kl.MaxPool2D())
    return front


def raised(back: keras.Sequential, filters: int, strides: int) -> None:
    """Add a normalised transposed convolution."""
    back.add(kl.Conv2DTranspose(filters, (3, 3), strides=strides, activation="relu", padding="same"))
    back.add(kl.BatchNormalization())


def report(number: int) -> tuple[keras.Model, keras.Model]:
    """Make one of networks 1 to 3."""
    front = report_encoder((32, 64, 128))
    for layer in (kl.Flatten(), kl.Dense(LATENT), kl.BatchNormalization()):
        front.add(layer)
    back = keras.Sequential([keras.Input((LATENT,)), kl.Dense(4096), kl.BatchNormalization()])
    back.add(kl.Reshape((8, 8, 64)))
    for filters in (32, 16, 8) if number == 3 else (64, 32, 16):
        raised(back, filters, 1 if number == 2 else 2)
        if number == 2:
            back.add(kl.UpSampling2D())
        if number == 3:
            raised(back, filters, 1)
    back.add(kl.Conv2D(3, (3, 3), activation="sigmoid", padding="same"))
    return front, back


def fcae() -> tuple[keras.Model, keras.Model]:
    """Make the fully convolutional network."""
    back = keras.Sequential([keras.Input((8, 8, 64))])
    for filters in (32, 16, 8):
        raised(back, filters, 2)
    back.add(kl.Conv2D(3, (1, 1), activation="sigmoid", padding="same"))
    return report_encoder((32, 48, 64)), back


MODELS: dict[str, Callable[[], tuple[keras.Model, keras.Model]]] = {
    "thesis-a1": a1,
    "thesis-a8": a8,
    "thesis-a9": a9,
    "thesis-a13": a13,
    "thesis-a14": a14,
    "thesis-a16": a16,
    "thesis-a18": a18,
    "harwood": harwood,
    "platos": platos,
    "report-net1": lambda: report(1),
    "report-net2": lambda: report(2),
    "report-net3": lambda: report(3),
    "report-fcae": fcae,
}


def draw(model: keras.Model, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Draw weights of a model in Keras's order; `tests/test_torch_keras.py` draws the same."""
    for weight in model.weights:
        name, shape = weight.path.rsplit("/", 1)[-1], tuple(weight.shape)
        if name == "kernel":
            yield rng.standard_normal(shape) / np.sqrt(np.prod(shape[:-1]))
        elif name in ("gamma", "moving_variance"):
            yield rng.uniform(0.5, 1.5, shape)
        else:  # bias, beta, moving_mean
            yield 0.1 * rng.standard_normal(shape)


def main(folder: Path) -> None:
    """Write a file for each network."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, make in MODELS.items():
        front, back = make()
        rng = np.random.default_rng(SEED)
        patch = rng.uniform(0, 1, (1, *front.input_shape[1:])).astype(np.float32)
        front.set_weights(list(draw(front, rng)))
        back.set_weights(list(draw(back, rng)))
        code = front(patch, training=False)
        heads = code if isinstance(code, list | tuple) else [code]
        image = back(heads[0], training=False)
        arrays = {"mean": np.asarray(heads[0]).reshape(1, -1), "image": np.asarray(image)}
        if len(heads) > 1:
            arrays["log_var"] = np.asarray(heads[1])
        np.savez_compressed(folder / f"{name}.npz", **arrays)
        sys.stdout.write(f"{name}: {front.count_params() + back.count_params()} parameters\n")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: keras_fixtures.py FOLDER")
    main(Path(sys.argv[1]))
