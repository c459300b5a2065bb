"""The networks of the reference documents, and one of our own."""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

from geoae_torch.architecture import (
    Architecture,
    Conv,
    Crop,
    Dense,
    DenseCode,
    Flatten,
    Input,
    Layer,
    MapCode,
    Pool,
    Recurrent,
    Reshape,
    Residual,
    TransposedConv,
    Upsample,
)

__all__ = ["preset", "preset_names"]

THESIS = "Staerk, bachelor's thesis on latent representations of topographic classes, 2019"
HARWOOD = "Harwood and Paganini, Convolutional autoencoders for dimensionality reduction, slides"
PLATOS = "Platos and Svoboda, Deep learning: autoencoders, slides, 2024"
REPORT = "Gruber, Viola, Mujala and Mihola, deep learning course project report, 2023"
SLIDES = "Autoencoders, slides on architectures and upsampling"
OURS = "geoae"

TEXT = "-text"
"""Suffix of a thesis network as the thesis' text has it."""


def _conv(filters: int, stride: int = 2, kernel: int = 3) -> Layer:
    return Conv(filters=filters, kernel=kernel, stride=stride, activation="selu")


def _pooled(filters: Iterable[int], how: Any) -> list[Layer]:
    layers: list[Layer] = []
    for number in filters:
        layers += [_conv(number, stride=1), Pool(how=how)]
    return layers


# Filters of the strided convolutions, or of the convolutions that a pool follows.
_STRIDED = {
    1: (8, 16, 32, 64, 128, 256),
    2: (16, 32, 64, 128, 256, 512),
    3: (8, 16, 32, 64, 128),
    4: (16, 32, 64, 128, 256),
    5: (8, 16, 32, 64),
    6: (16, 32, 64, 128),
    7: (4, 8, 16),
    8: (8, 16, 32),
    10: (16, 32, 64),
    11: (16, 32),
    16: (8, 16, 32, 64, 128),
    17: (8, 16, 32),
}
_POOLED = {12: ((8, 16, 32), "average"), 13: ((16, 32, 64), "average")}
_POOLED |= {14: ((8, 16, 32), "max"), 15: ((16, 32, 64), "max")}
_NOTES = {
    7: "The text of the thesis says 8, 16 and 32 filters, which would be network 8; its column of output "
    "sizes, its flattened size and its decoder say 4, 8 and 16.",
    8: "The thesis' chosen network without pooling.",
    14: "The thesis' chosen network with pooling.",
}


def _thesis(number: int, text: bool) -> Architecture:
    kernel = 5 if number in (16, 17) else 3
    widths: Sequence[int] = (8, 16, 32)
    if number in _STRIDED:
        widths = _STRIDED[number]
        encoder = [_conv(filters, kernel=kernel) for filters in widths]
    elif number in _POOLED:
        widths, how = _POOLED[number]
        encoder = _pooled(widths, how)
    elif number == 9:
        encoder = [_conv(8), _conv(16), *(_conv(16, stride=1) for _ in range(3)), _conv(32)]
    else:
        encoder = [_conv(filters, stride) for filters in widths for stride in (1, 2)]
    decoder: list[Layer] = [
        TransposedConv(filters=filters, kernel=kernel, stride=2, activation="selu")
        for filters in reversed(widths[:-1])
    ]
    if number == 9:
        decoder[1:1] = [TransposedConv(filters=16, stride=1, activation="selu")] * 3
    return Architecture(
        name=f"thesis-a{number}{TEXT if text else ''}",
        title=_thesis_title(number, widths, kernel)
        + (", dense layer with SELU as in the text" if text else ""),
        source=THESIS,
        notes=_NOTES.get(number, ""),
        latent_dim=1024,
        variational=True,
        initialiser="lecun" if text else "glorot",
        encoder=(*encoder, Flatten()),
        decoder=(
            Dense(activation="selu" if text else "linear"),
            Reshape(channels=widths[-1]),
            *decoder,
            TransposedConv(filters="bands", kernel=kernel, stride=2, activation="sigmoid"),
        ),
    )


def _thesis_title(number: int, widths: Sequence[int], kernel: int) -> str:
    if number in _POOLED:
        how = f"convolutions and {_POOLED[number][1]} pooling"
    elif number == 18:
        how = "pairs of a plain and a strided convolution"
    else:
        how = f"strided convolutions of {kernel} x {kernel}"
    more = ", three plain ones among them" if number == 9 else ""
    return f"{len(widths)} {how}, {widths[0]} to {widths[-1]} filters{more}"


def _harwood() -> Architecture:
    up: list[Layer] = []
    for filters in (512, 256, 128):
        up += [_conv(filters, stride=1), Upsample()]
    return Architecture(
        name="harwood",
        title="Convolutions, maximum pooling and one global maximum; upsampling",
        source=HARWOOD,
        notes="The latent vector is computed from 512 numbers, so that it has at most 512 dimensions of its "
        "own. The decoder spreads it over n/8 x n/8 pixels. The output's activation is not stated; "
        "sigmoid is taken.",
        latent_dim=1024,
        initialiser="lecun",
        encoder=(*_pooled((32, 64, 128, 256), "max"), _conv(512, stride=1), Pool(how="global-max")),
        code=DenseCode(activation="selu"),
        decoder=(
            Reshape(),
            *up,
            _conv(64, stride=1),
            _conv(32, stride=1),
            Conv(filters="bands", activation="sigmoid"),
        ),
    )


def _platos() -> Architecture:
    def conv(filters: int, padding: Any = "same") -> Layer:
        return Conv(filters=filters, activation="relu", padding=padding)

    def pool() -> Layer:
        return Pool(how="max", padding="same")

    return Architecture(
        name="platos",
        title="Convolutions and pooling down to a map of 8 channels",
        source=PLATOS,
        notes="One convolution of the decoder pads nothing, so that it returns its input's size for "
        "n = 4 modulo 8 only. The code is the map: 128 numbers for 28 x 28 pixels.",
        input=Input(patch=28, bands=1),
        encoder=(conv(64), pool(), conv(32), pool(), conv(8), pool()),
        code=MapCode(),
        decoder=(
            conv(8),
            Upsample(),
            conv(32),
            Upsample(),
            conv(64, "valid"),
            Upsample(),
            Conv(filters="bands", activation="sigmoid"),
        ),
    )


def _normed(filters: int) -> Layer:
    return Conv(filters=filters, activation="relu", batch_norm=True)


def _raised(filters: int, stride: int) -> Layer:
    return TransposedConv(filters=filters, stride=stride, activation="relu", batch_norm=True)


def _report_encoder(widths: Iterable[int]) -> list[Layer]:
    layers: list[Layer] = []
    for filters in widths:
        layers += [_normed(filters), _normed(filters), Pool(how="max")]
    return layers


def _report(number: int) -> Architecture:
    decoder: list[Layer] = []
    for filters in (32, 16, 8) if number == 3 else (64, 32, 16):
        if number == 1:
            decoder += [_raised(filters, 2)]
        elif number == 2:
            decoder += [_raised(filters, 1), Upsample()]
        else:
            decoder += [_raised(filters, 2), _raised(filters, 1)]
    return Architecture(
        name=f"report-net{number}",
        title="Pairs of convolutions with batch normalisation, "
        + ("", "strided", "plain", "strided and plain")[number]
        + " transposed convolutions",
        source=REPORT,
        notes="The report settled on network 1 with a latent vector of 1000.",
        input=Input(patch=64),
        latent_dim=4096,
        encoder=(*_report_encoder((32, 64, 128)), Flatten()),
        code=DenseCode(batch_norm=True),
        decoder=(
            Dense(batch_norm=True),
            Reshape(channels=64),
            *decoder,
            Conv(filters="bands", activation="sigmoid"),
        ),
    )


def _report_fcae() -> Architecture:
    return Architecture(
        name="report-fcae",
        title="Fully convolutional: the code is a map of 64 channels",
        source=REPORT,
        notes="The code is the map: 4096 numbers for 64 x 64 pixels. Normalisation throughout is assumed.",
        input=Input(patch=64),
        encoder=tuple(_report_encoder((32, 48, 64))),
        code=MapCode(),
        decoder=(
            *(_raised(filters, 2) for filters in (32, 16, 8)),
            Conv(filters="bands", kernel=1, activation="sigmoid"),
        ),
    )


def _unpooled() -> Architecture:
    def pair(filters: int) -> list[Layer]:
        return [Conv(filters=filters, activation="relu"), Pool(how="max", indices=True)]

    return Architecture(
        name="unpool",
        title="Maximum pooling with saved places, undone by unpooling",
        source=SLIDES,
        notes="The decoder needs the places of the maxima from the encoder's pass over the same patch, so "
        "that it cannot make an image of a latent vector alone.",
        encoder=(*pair(16), *pair(32), *pair(32)),
        code=MapCode(),
        decoder=(
            Upsample(how="unpool"),
            Conv(filters=32, activation="relu"),
            Upsample(how="unpool"),
            Conv(filters=16, activation="relu"),
            Upsample(how="unpool"),
            Conv(filters="bands", activation="sigmoid"),
        ),
    )


def _dense() -> Architecture:
    return Architecture(
        name="dense",
        title="Undercomplete multi-layer perceptron",
        source=SLIDES,
        notes="A hidden layer of 256 on each side, for 128 x 128 pixels about the size of thesis-a8.",
        latent_dim=64,
        encoder=(Flatten(), Dense(units=256, activation="relu")),
        decoder=(
            Dense(units=256, activation="relu"),
            Dense(activation="sigmoid"),
            Reshape(channels="bands"),
        ),
    )


def _recurrent() -> Architecture:
    return Architecture(
        name="recurrent",
        title="A gated recurrent unit over the rows of the patch",
        source=PLATOS,
        notes="The encoder keeps its state after the last row; the decoder gets the code at every row.",
        latent_dim=64,
        encoder=(Recurrent(units=256),),
        decoder=(
            Recurrent(units=256, returns="all"),
            Dense(activation="sigmoid"),
            Reshape(channels="bands"),
        ),
    )


def _residual() -> Architecture:
    return Architecture(
        name="residual",
        title="Squares of 4 x 4 pixels, a strided and a residual layer, and back",
        source=OURS,
        notes="The first layer takes the image to a quarter of its side: little is computed at full size. "
        "The last one has squares that overlap evenly, so that no edges of squares show. Takes every patch.",
        latent_dim=64,
        variational=True,
        initialiser="lecun",
        encoder=(
            Conv(filters=24, kernel=4, stride=4, activation="selu"),
            Conv(filters=32, stride=2, activation="selu"),
            Residual(filters=32),
            Flatten(),
        ),
        decoder=(
            Dense(),
            Reshape(channels=32),
            Residual(filters=32),
            TransposedConv(filters=24, stride=2, activation="selu"),
            TransposedConv(filters="bands", kernel=8, stride=4, activation="sigmoid"),
            Crop(),
        ),
    )


def _principal() -> Architecture:
    described: dict[str, Any] = {
        "name": "principal",
        "title": "Principal axes of the patches, and convolutions that mend what they make",
        "notes": "The axes are found before training, on patches of at most 3072 numbers, and not trained: "
        "they are not counted. The layers of the decoder see the image that the axes make, and begin with "
        "nothing to add to it; so do the encoder's, those of `residual`. Takes every patch.",
        "principal_axes": True,
        "decoder": (
            Conv(filters=32, kernel=4, stride=2, activation="selu"),
            Residual(filters=32),
            Residual(filters=32),
            TransposedConv(filters="bands", kernel=4, stride=2),
            Crop(),
        ),
    }
    return _residual().model_copy(update=described)


@lru_cache(maxsize=1)
def _presets() -> dict[str, Architecture]:
    thesis = [_thesis(number, text=False) for number in range(1, 19)]
    texts = [_thesis(number, text=True) for number in range(1, 19)]
    others = [
        _principal(),
        _residual(),
        _harwood(),
        _platos(),
        _recurrent(),
        *(_report(number) for number in (1, 2, 3)),
        _report_fcae(),
        _unpooled(),
        _dense(),
    ]
    return {network.name: network for network in [*others[:2], *thesis, *others[2:], *texts]}


def preset_names(*, readings: bool = False) -> tuple[str, ...]:
    """Return the names of the presets, ours first, then in the order of the documents.

    Parameters
    ----------
    readings
        Also the thesis' networks as its text has them (``thesis-a8-text``): a dense layer with SELU in
        the decoder and LeCun's initialisation, where its code has a linear one and Glorot's.
    """
    return tuple(name for name in _presets() if readings or not name.endswith(TEXT))


def preset(name: str) -> Architecture:
    """Return a preset.

    Raises
    ------
    KeyError
        If there is none of that name.
    """
    return _presets()[name]
