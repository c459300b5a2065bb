"""Networks as data: the layers of an encoder and a decoder, before any size is known.

A description names layers and what distinguishes them, never sizes that follow from others.
`geoae_torch.shapes` works out every size for a number of bands, a patch and a latent length, or refuses;
`geoae_torch.networks` builds.

Images are ``(y, x, channel)`` here, as the documents print them.
"""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = [
    "FORMAT",
    "Activation",
    "Architecture",
    "Conv",
    "Crop",
    "Dense",
    "DenseCode",
    "DepthToSpace",
    "Description",
    "Filters",
    "Flatten",
    "Input",
    "Layer",
    "MapCode",
    "Pool",
    "Recurrent",
    "Reshape",
    "Residual",
    "SpaceToDepth",
    "TransposedConv",
    "Upsample",
]

FORMAT = 1
"""The newest format of a description that this version reads."""

Activation = Literal["linear", "relu", "leaky-relu", "elu", "selu", "gelu", "silu", "tanh", "sigmoid"]
"""Function after a layer; ``leaky-relu`` has slope 0.3 below zero, Keras's default."""

Padding = Literal["same", "valid"]
"""``same`` keeps ``ceil(n / stride)`` pixels, as Keras and TensorFlow define it; ``valid`` pads nothing."""

Filters = Annotated[int, Field(ge=1, le=65_536)] | Literal["bands"]
"""Number of channels; ``bands`` is as many as the image to be produced has."""

Kernel = Annotated[int, Field(ge=1, le=31)]
Stride = Annotated[int, Field(ge=1, le=16)]
Factor = Annotated[int, Field(ge=2, le=16)]
Units = Annotated[int, Field(ge=1, le=1 << 24)]


class Description(BaseModel):
    """Frozen, and refuses keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Conv(Description):
    """A convolution, then the activation, then the batch normalisation."""

    layer: Literal["conv"] = "conv"
    filters: Filters
    kernel: Kernel = 3
    stride: Stride = 1
    activation: Activation = "linear"
    batch_norm: bool = False
    padding: Padding = "same"


class TransposedConv(Description):
    """A transposed convolution, then the activation, then the batch normalisation.

    ``same`` gives ``n * stride`` pixels, ``valid`` gives ``(n - 1) * stride + max(kernel, stride)``.
    """

    layer: Literal["transposed-conv"] = "transposed-conv"
    filters: Filters
    kernel: Kernel = 3
    stride: Stride = 1
    activation: Activation = "linear"
    batch_norm: bool = False
    padding: Padding = "same"


class Residual(Description):
    """Add ``conv(activation(conv(x)))`` to ``x``; a 1 x 1 convolution of ``x`` where the widths differ.

    The second convolution begins at zero, so that a deep network begins as a shallow one.
    """

    layer: Literal["residual"] = "residual"
    filters: Annotated[int, Field(ge=1, le=65_536)]
    kernel: Kernel = 3
    activation: Activation = "relu"


class Pool(Description):
    """The maximum or the mean of every square of ``size`` pixels, or the maximum of each whole channel."""

    layer: Literal["pool"] = "pool"
    how: Literal["max", "average", "global-max"]
    size: Factor = 2
    padding: Padding = "valid"
    indices: bool = Field(default=False, description="Save where the maxima were, for an upsample: unpool.")


class Upsample(Description):
    """Enlarge ``factor`` times.

    ``nearest`` repeats pixels; ``bilinear`` interpolates between pixel centres (half-pixel centres);
    ``bed-of-nails`` puts a pixel at the upper left of zeros; ``unpool`` puts it where the maximum was that
    the last pool with ``indices`` took, which needs the encoder's pass over the same patch.
    """

    layer: Literal["upsample"] = "upsample"
    how: Literal["nearest", "bilinear", "bed-of-nails", "unpool"] = "nearest"
    factor: Factor = 2


class SpaceToDepth(Description):
    """Turn squares of pixels into channels; nothing is lost."""

    layer: Literal["space-to-depth"] = "space-to-depth"
    factor: Factor = 2


class DepthToSpace(Description):
    """Turn channels into squares of pixels."""

    layer: Literal["depth-to-space"] = "depth-to-space"
    factor: Factor = 2


class Dense(Description):
    """A dense layer, then activation and batch normalisation; on a sequence, on every step alone."""

    layer: Literal["dense"] = "dense"
    units: Units | None = Field(default=None, description="None: as many as the reshape that follows holds.")
    activation: Activation = "linear"
    batch_norm: bool = False


class Recurrent(Description):
    """A recurrent layer over rows.

    An image is read as the sequence of its rows; a vector is given to every one of as many steps as the patch
    has rows.
    """

    layer: Literal["recurrent"] = "recurrent"
    units: Annotated[int, Field(ge=1, le=65_536)]
    cell: Literal["gru", "lstm"] = "gru"
    returns: Literal["last", "all"] = Field(
        default="last", description="The last state, or the state at every row."
    )


class Flatten(Description):
    """Make a vector of an image, in the order y, x, channel."""

    layer: Literal["flatten"] = "flatten"


class Reshape(Description):
    """Make an image of a vector, in the order y, x, channel, or of a sequence of rows.

    Its size is the one from which the layers after it reach the patch: n/8 x n/8 before three layers that
    double. Without ``channels``, the vector is spread over as many channels as it fills.
    """

    layer: Literal["reshape"] = "reshape"
    channels: Filters | None = None


class Crop(Description):
    """Cut the middle of the patch's size out, so that every patch size will do."""

    layer: Literal["crop"] = "crop"


Layer = Annotated[
    Conv
    | TransposedConv
    | Residual
    | Pool
    | Upsample
    | SpaceToDepth
    | DepthToSpace
    | Dense
    | Recurrent
    | Flatten
    | Reshape
    | Crop,
    Field(discriminator="layer"),
]


class DenseCode(Description):
    """The code is a dense layer on the encoder's vector; a variational network has two.

    The second gives the log-variance. Activation and batch normalisation belong to the mean alone.
    """

    kind: Literal["dense"] = "dense"
    activation: Activation = "linear"
    batch_norm: bool = False


class MapCode(Description):
    """The code is what the encoder's layers give, an image or a vector; its length follows from the patch."""

    kind: Literal["map"] = "map"


class Input(Description):
    """What a network was described for: its patch in pixels, and its bands."""

    patch: Annotated[int, Field(ge=1, le=65_536)] = 128
    bands: Annotated[int, Field(ge=1, le=4096)] = 3


class Architecture(Description):
    """An encoder, a code and a decoder."""

    format: Literal[1] = 1
    name: str = Field(min_length=1, max_length=64)
    title: str = ""
    source: str = Field(default="", description="Where the network comes from.")
    notes: str = ""
    input: Input = Input()
    latent_dim: Units | None = Field(
        default=None, description="Length of the code unless another is asked for."
    )
    variational: bool = Field(default=False, description="Whether it was described with mean and variance.")
    initialiser: Literal["glorot", "lecun"] = "glorot"
    encoder: tuple[Layer, ...] = Field(min_length=1, max_length=500)
    code: DenseCode | MapCode = Field(default=DenseCode(), discriminator="kind")
    decoder: tuple[Layer, ...] = Field(min_length=1, max_length=500)
    principal_axes: bool = Field(
        default=False,
        description="Whether principal axes of the training patches, found before training and then fixed, "
        "encode and decode beside the layers, which begin with nothing to add. The decoder's layers get the "
        "image that the axes make of the code, at most 3072 numbers, and add to it before it is enlarged.",
    )

    @model_validator(mode="after")
    def _axes_are_exact(self) -> Self:
        place = self.output_place
        last = None if place is None else getattr(self.decoder[place], "activation", "linear")
        if self.principal_axes and (last != "linear" or isinstance(self.code, MapCode)):
            raise ValueError("principal_axes need a dense code, and an image whose activation is linear")
        return self

    @property
    def output_place(self) -> int | None:
        """Place of the decoder's layer whose activation is the image's; None if there is none."""
        for place in reversed(range(len(self.decoder))):
            layer = self.decoder[place]
            if isinstance(layer, Conv | TransposedConv | Dense):
                return None if layer.batch_norm else place
            if not isinstance(layer, Reshape | Crop):
                return None
        return None

    def with_activation(self, activation: Activation) -> Self:
        """Return the network with another activation in every hidden layer that has one.

        The code and the output keep theirs.
        """
        place = self.output_place
        return self.model_copy(
            update={
                "encoder": tuple(_activated(layer, activation) for layer in self.encoder),
                "decoder": tuple(
                    layer if i == place else _activated(layer, activation)
                    for i, layer in enumerate(self.decoder)
                ),
            }
        )

    def with_output(self, activation: Activation) -> Self:
        """Return the network with another activation of the image that it makes.

        Raises
        ------
        ValueError
            If no layer's activation is the image's.
        """
        place = self.output_place
        if place is None:
            raise ValueError(f"network {self.name} ends with no activation of the image")
        last = self.decoder[place].model_copy(update={"activation": activation})
        return self.model_copy(update={"decoder": (*self.decoder[:place], last, *self.decoder[place + 1 :])})


def _activated(layer: Layer, activation: Activation) -> Layer:
    if getattr(layer, "activation", "linear") == "linear":
        return layer
    return layer.model_copy(update={"activation": activation})
