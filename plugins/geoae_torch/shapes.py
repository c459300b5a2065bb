"""Sizes of a network, layer by layer, worked out without building it.

Rules for any patch size. An encoder takes every size that its layers leave at least a pixel of. A decoder
that begins with a reshape begins with the size from which its layers reach the patch exactly; where no size
does, the patch is refused, unless the decoder ends with a crop. A decoder that begins with the encoder's map
must give the patch back as it is, and beside principal axes the smaller image that these make.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from geoae.errors import UsageError
from geoae_torch.architecture import (
    Architecture,
    Conv,
    Crop,
    Dense,
    DenseCode,
    DepthToSpace,
    Flatten,
    Layer,
    MapCode,
    Pool,
    Recurrent,
    Reshape,
    Residual,
    SpaceToDepth,
    TransposedConv,
    Upsample,
)
from geoae_torch.sizes import (
    MismatchError,
    PatchError,
    Shape,
    as_image,
    as_rows,
    length_of,
    side_after,
    side_before,
    smaller,
    text_of,
)

__all__ = ["Plan", "Step", "plan"]

SEARCHED = 256  # pixels around a patch size that does not fit, where one that does is looked for


@dataclass(frozen=True)
class Step:
    """A layer with its sizes.

    Parameters
    ----------
    name
        ``encoder.0``, ``mean``, ``log_var``, ``decoder.0``, ...
    layer
        Its description.
    inputs, outputs
        Shapes of one patch, channels last.
    parameters
        Trainable parameters, those of its batch normalisation included.
    """

    name: str
    layer: Layer
    inputs: Shape
    outputs: Shape
    parameters: int


@dataclass(frozen=True)
class Plan:
    """A network with all its sizes.

    Parameters
    ----------
    architecture
        The description.
    patch
        ``(y, x)`` pixels.
    bands, out_bands
        Channels of the input and of the image that is produced.
    latent_dim
        Length of the code.
    variational
        Whether the code has a mean and a log-variance.
    encoder, heads, decoder
        The layers. Heads are the mean, then the log-variance; none where the code is the encoder's map.
    code_shape
        Shape of the code before it is made a vector, and with which the decoder begins.
    """

    architecture: Architecture
    patch: tuple[int, int]
    bands: int
    out_bands: int
    latent_dim: int
    variational: bool
    encoder: tuple[Step, ...]
    heads: tuple[Step, ...]
    decoder: tuple[Step, ...]
    code_shape: Shape

    @property
    def steps(self) -> tuple[Step, ...]:
        """All layers in order."""
        return self.encoder + self.heads + self.decoder

    @property
    def parameters(self) -> int:
        """Number of trainable parameters."""
        return sum(step.parameters for step in self.steps)

    @property
    def encoder_parameters(self) -> int:
        """Number of trainable parameters up to the code."""
        return sum(step.parameters for step in self.encoder + self.heads)

    @property
    def decoder_parameters(self) -> int:
        """Number of trainable parameters after the code."""
        return sum(step.parameters for step in self.decoder)

    @property
    def picture(self) -> tuple[int, int]:
        """Pixels ``(y, x)`` of the image that the decoder's layers make."""
        return smaller(self.patch, self.out_bands) if self.architecture.principal_axes else self.patch

    @property
    def needs_indices(self) -> bool:
        """Whether the decoder needs positions that only the encoder's pass over the same patch knows."""
        return any(isinstance(step.layer, Upsample) and step.layer.how == "unpool" for step in self.decoder)


def plan(
    architecture: Architecture,
    *,
    patch: int | tuple[int, int] | None = None,
    bands: int | None = None,
    out_bands: int | None = None,
    latent_dim: int | None = None,
    variational: bool | None = None,
) -> Plan:
    """Work out every size of a network.

    Parameters
    ----------
    architecture
        The description.
    patch
        ``(y, x)`` pixels, or one number for both; those that the network was described for by default.
    bands
        Channels of the input; those that the network was described for by default.
    out_bands
        Channels of the image that is produced; `bands` by default.
    latent_dim
        Length of the code; the description's by default.
    variational
        Whether the code has a mean and a log-variance; as described by default.

    Raises
    ------
    UsageError
        If the network does not fit; says which layer, or which patch sizes do.

    Examples
    --------
    >>> from geoae_torch.description import load_architecture
    >>> network = plan(load_architecture("thesis-a8"), latent_dim=128)
    >>> network.parameters
    3166211
    >>> network.encoder[2].outputs
    (16, 16, 32)
    """
    size = architecture.input.patch if patch is None else patch
    y, x = (size, size) if isinstance(size, int) else size
    bands = architecture.input.bands if bands is None else bands
    out_bands = bands if out_bands is None else out_bands
    if min(y, x, bands, out_bands, 1 if latent_dim is None else latent_dim) < 1:
        raise ValueError("patch, bands and latent_dim are at least 1")
    variational = architecture.variational if variational is None else variational
    planner = _Planner(architecture, (y, x), out_bands)
    try:
        return planner.plan(
            bands, latent_dim, architecture.variational if variational is None else variational
        )
    except PatchError as error:
        raise UsageError(
            f"network {architecture.name} does not fit patches of {y} x {x} pixels: {error}",
            hint=_sizes_that_fit(architecture, max(y, x), bands, out_bands, latent_dim, variational),
        ) from None


def _sizes_that_fit(
    architecture: Architecture,
    size: int,
    bands: int,
    out_bands: int,
    latent_dim: int | None,
    variational: bool,
) -> str:
    def fits(n: int) -> bool:
        try:
            _Planner(architecture, (n, n), out_bands).plan(bands, latent_dim, variational)
        except (PatchError, UsageError):
            return False
        return True

    below = next((n for n in range(size, max(size - SEARCHED, 0), -1) if fits(n)), None)
    above = next((n for n in range(size + 1, size + SEARCHED) if fits(n)), None)
    known = [f"{n} x {n}" for n in (below, above) if n is not None]
    return f"patches of {' or '.join(known)} pixels" if known else "another network"


class _Planner:
    """Follows the shape of a patch through the layers of one network."""

    def __init__(self, architecture: Architecture, patch: tuple[int, int], out_bands: int) -> None:
        self.architecture = architecture
        self.patch = patch
        self.out_bands = out_bands
        self.saved: list[tuple[Shape, Shape, int]] = []  # of pools with indices: input, output, size

    def plan(self, bands: int, latent_dim: int | None, variational: bool) -> Plan:
        described = self.architecture
        patch: Shape = (*self.patch, bands)
        encoder, shape = self._follow("encoder", described.encoder, patch)
        heads, code_shape = self._code(shape, latent_dim, variational)
        length = length_of(code_shape)
        if length > length_of(patch):
            raise UsageError(
                f"a latent vector of {length} is longer than the patch, which has {length_of(patch)} numbers "
                f"({text_of(patch)})",
                hint="give a smaller --latent-dim",
            )
        size, shape = self.patch, code_shape
        if described.principal_axes:
            # The decoder works on the image that the axes make of the code.
            self.patch = smaller(size, self.out_bands)
            shape = (*self.patch, self.out_bands)
        decoder, shape = self._follow("decoder", described.decoder, shape)
        wanted = (*self.patch, self.out_bands)
        if len(shape) != 3 or shape[2] != self.out_bands:
            raise self._refuse(f"the decoder gives {text_of(shape)}, not {text_of(wanted)}")
        if shape != wanted:
            raise PatchError(f"the decoder gives {shape[0]} x {shape[1]}")
        return Plan(
            described, size, bands, self.out_bands, length, variational, encoder, heads, decoder, code_shape
        )

    def _refuse(self, problem: str) -> UsageError:
        return UsageError(
            f"network {self.architecture.name}: {problem}", hint="geoae networks shows the presets"
        )

    def _code(
        self, shape: Shape, latent_dim: int | None, variational: bool
    ) -> tuple[tuple[Step, ...], Shape]:
        code = self.architecture.code
        if isinstance(code, MapCode):
            if variational:
                raise self._refuse("its code is the encoder's map, which has no variance; use a dense code")
            if latent_dim not in (None, length_of(shape)):
                raise UsageError(
                    f"network {self.architecture.name} has a latent vector of {length_of(shape)}, not "
                    f"{latent_dim}: it is the encoder's map of {text_of(shape)}",
                    hint=f"leave --latent-dim out or give {length_of(shape)}",
                )
            return (), shape
        if len(shape) != 1:
            raise self._refuse(
                f"a dense code needs a vector, the encoder gives {text_of(shape)}; end with flatten"
            )
        length = self.architecture.latent_dim if latent_dim is None else latent_dim
        if length is None:
            raise self._refuse("it has no latent_dim of its own, give one")
        mean = _head("mean", code, shape[0], length)
        if not variational:
            return (mean,), (length,)
        return (mean, _head("log_var", DenseCode(), shape[0], length)), (length,)

    def _follow(self, part: str, layers: Sequence[Layer], shape: Shape) -> tuple[tuple[Step, ...], Shape]:
        steps = []
        for place, layer in enumerate(layers):
            name = f"{part}.{place}"
            try:
                outputs, parameters = self._apply(layer, shape, layers[place + 1 :])
            except MismatchError as error:
                raise self._refuse(f"{name} ({layer.layer}): {error}") from None
            if min(outputs) < 1:
                raise PatchError(f"nothing is left of {text_of(shape)} after {name} ({layer.layer})")
            steps.append(Step(name, layer, shape, outputs, parameters))
            shape = outputs
        return tuple(steps), shape

    def _apply(self, layer: Layer, shape: Shape, rest: Sequence[Layer]) -> tuple[Shape, int]:
        """Shape after a layer, and its parameters."""
        match layer:
            case Conv() | TransposedConv():
                y, x, channels = as_image(shape)
                filters = self.out_bands if layer.filters == "bands" else layer.filters
                count = (
                    layer.kernel**2 * channels * filters + filters + (2 * filters if layer.batch_norm else 0)
                )
                return (side_after(layer, y), side_after(layer, x), filters), count
            case Residual():
                y, x, channels = as_image(shape)
                k, filters = layer.kernel, layer.filters
                count = k**2 * channels * filters + filters + k**2 * filters**2 + filters
                return (y, x, filters), count + (channels * filters if channels != filters else 0)
            case Pool(how="global-max"):
                return (as_image(shape)[2],), 0
            case Upsample(how="unpool"):
                return self._unpool(as_image(shape)), 0
            case Pool() | Upsample():
                y, x, channels = as_image(shape)
                outputs = (side_after(layer, y), side_after(layer, x), channels)
                if isinstance(layer, Pool) and layer.indices:
                    self._save(layer, shape, outputs)
                return outputs, 0
            case SpaceToDepth():
                y, x, channels = as_image(shape)
                if y % layer.factor or x % layer.factor:
                    raise PatchError(f"{y} x {x} pixels do not divide into squares of {layer.factor}")
                return (y // layer.factor, x // layer.factor, channels * layer.factor**2), 0
            case DepthToSpace():
                y, x, channels = as_image(shape)
                if channels % layer.factor**2:
                    raise MismatchError(f"{channels} channels do not make squares of {layer.factor} pixels")
                return (y * layer.factor, x * layer.factor, channels // layer.factor**2), 0
            case Flatten():
                return (length_of(as_image(shape)),), 0
            case Dense():
                if len(shape) == 3:
                    raise MismatchError("it needs a vector or a sequence; put flatten before it")
                units = self._units(shape, rest) if layer.units is None else layer.units
                count = (shape[-1] + (3 if layer.batch_norm else 1)) * units
                if layer.batch_norm and len(shape) == 2:
                    raise MismatchError("no batch normalisation of a sequence")
                return (*shape[:-1], units), count
            case Recurrent():
                steps, channels = as_rows(shape, self.patch[0])
                gates = 3 if layer.cell == "gru" else 4
                count = gates * (channels * layer.units + layer.units**2 + 2 * layer.units)
                return ((steps, layer.units) if layer.returns == "all" else (layer.units,)), count
            case Reshape():
                return self._reshape(layer, shape, rest), 0
            case Crop():
                y, x, channels = as_image(shape)
                if y < self.patch[0] or x < self.patch[1]:
                    raise PatchError(f"{y} x {x} is too small to be cropped")
                return (*self.patch, channels), 0

    def _save(self, layer: Pool, inputs: Shape, outputs: Shape) -> None:
        if layer.how != "max":
            raise MismatchError("only a maximum has a place to save")
        self.saved.append((inputs, outputs, layer.size))

    def _unpool(self, shape: Shape) -> Shape:
        if not self.saved:
            raise MismatchError("there is no pool with indices left to undo")
        before, after, _ = self.saved.pop()
        if shape != after:
            raise MismatchError(f"it undoes a pool that gave {text_of(after)}, and gets {text_of(shape)}")
        return before

    def _start(self, rest: Sequence[Layer]) -> tuple[int, int]:
        """Pixels from which the layers of the rest reach the patch."""
        return side_before(self.patch[0], rest), side_before(self.patch[1], rest)

    def _units(self, shape: Shape, rest: Sequence[Layer]) -> int:
        if not rest or not isinstance(rest[0], Reshape) or rest[0].channels is None:
            raise MismatchError("give units, or let a reshape with channels follow")
        y, x = self._start(rest[1:])
        channels = self.out_bands if rest[0].channels == "bands" else rest[0].channels
        return x * channels if len(shape) == 2 else y * x * channels

    def _reshape(self, layer: Reshape, shape: Shape, rest: Sequence[Layer]) -> Shape:
        if len(shape) == 3:
            raise MismatchError("it makes an image of a vector, not of an image")
        y, x = self._start(rest)
        if len(shape) == 2 and shape[0] != y:
            raise MismatchError(f"{shape[0]} rows cannot become {y}")
        channels, left = divmod(length_of(shape), y * x)
        if left or not channels:
            raise UsageError(
                f"network {self.architecture.name}: {length_of(shape)} numbers do not fill {y} x {x} pixels",
                hint=f"give a multiple of {y * x}, for example --latent-dim {max(channels, 1) * y * x}",
            )
        asked = self.out_bands if layer.channels == "bands" else layer.channels
        if asked not in (None, channels):
            raise MismatchError(f"{text_of(shape)} gives {y} x {x} pixels {channels} channels, not {asked}")
        return (y, x, channels)


def _head(name: str, code: DenseCode, inputs: int, length: int) -> Step:
    layer = Dense(units=length, activation=code.activation, batch_norm=code.batch_norm)
    count = (inputs + (3 if code.batch_norm else 1)) * length
    return Step(name, layer, (inputs,), (length,), count)
