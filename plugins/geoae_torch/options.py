"""Options of the encoders; each field is an option of the command line."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from geoae.encoder import EncoderConfig
from geoae.errors import GeoaeError
from geoae_torch.architecture import Activation, Architecture, Upsample
from geoae_torch.description import SUFFIXES, load_architecture

__all__ = [
    "AutoencoderConfig",
    "ContractiveConfig",
    "DenoisingConfig",
    "DenseConfig",
    "SparseConfig",
    "VAEConfig",
]


def _read_network(value: Any) -> Any:
    """Read a network from its file, so that a model holds the network itself and not a path."""
    if not isinstance(value, str):
        return value
    if Path(value).suffix not in SUFFIXES:
        raise ValueError("name a .yaml file; presets go to --preset")
    try:
        return load_architecture(Path(value))
    except GeoaeError as error:
        raise ValueError(error.message) from None


class AutoencoderConfig(EncoderConfig):
    """Options that all autoencoders share."""

    # None where the base has a number: networks have code lengths of their own.
    latent_dim: int | None = Field(  # type: ignore[assignment]
        None, ge=1, description="Length of the latent vector of a patch; the network's own by default."
    )
    preset: str = Field("principal", description="Network; `geoae networks` lists them.")
    network: Annotated[Architecture | None, BeforeValidator(_read_network)] = Field(
        None, description="A network of one's own instead: a YAML file, see `geoae networks NAME --yaml`."
    )
    activation: Activation | None = Field(
        None, description="Replaces the activations of the network, but for its last."
    )
    epochs: int | None = Field(None, ge=1, description="Passes over the training patches.")
    steps: int | None = Field(
        None,
        ge=1,
        description="Most training steps; without epochs and steps, 2200, or one epoch where that is more.",
    )
    batch_size: int = Field(32, ge=1, description="Patches of a training step.")
    learning_rate: float = Field(1e-3, gt=0, description="Learning rate at the beginning.")
    optimiser: Literal["adam", "rmsprop", "rmsprop-keras"] = Field(
        "adam", description="Keras's RMSprop has epsilon inside the root, where it can rule."
    )
    epsilon: float = Field(1e-7, gt=0, description="Epsilon of the optimiser.")
    schedule: Literal["constant", "constant-then-linear", "exponential", "plateau"] = Field(
        "constant-then-linear", description="How the learning rate falls."
    )
    final_rate: float = Field(
        0.02, gt=0, le=1, description="Share of the learning rate that is left at the end, or on plateaus."
    )
    hold: float = Field(0.5, ge=0, lt=1, description="Share of the steps before the rate falls in a line.")
    plateau: int = Field(
        3, ge=1, description="Evaluations without progress before the plateau schedule halves the rate."
    )
    patience: int | None = Field(
        None, ge=1, description="Stop after so many evaluations without progress; never by default."
    )
    clip: float | None = Field(None, gt=0, description="Largest norm of the gradient.")
    loss: Literal["mae", "mse", "bce"] = Field(
        "mae", description="Error of an image: absolute, squared, or cross entropy."
    )
    balance: bool = Field(False, description="Weight bands by the inverse of their error.")
    augment: bool = Field(True, description="Flip and turn training patches at random.")
    deterministic: bool = Field(False, description="Refuse operations that differ from run to run on a GPU.")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="Of training; auto takes bfloat16 on a GPU."
    )
    tensorboard: bool = Field(False, description="Also write a log for TensorBoard.")

    @field_validator("preset")
    @classmethod
    def _known(cls, value: str) -> str:
        if Path(value).suffix in SUFFIXES:
            raise ValueError("a file is given with --network")
        try:
            load_architecture(value)
        except GeoaeError as error:
            raise ValueError(f"{error.message}; geoae networks lists them") from None
        return value

    @model_validator(mode="after")
    def _fit_together(self) -> "AutoencoderConfig":
        if any(isinstance(layer, Upsample) and layer.how == "unpool" for layer in self.architecture.decoder):
            raise ValueError(
                f"network {self.architecture.name} undoes its pooling with places that only its encoder "
                "knows: it makes no image of a latent vector alone, which an encoder must"
            )
        output = self.architecture.output_place
        last = None if output is None else getattr(self.architecture.decoder[output], "activation", None)
        if self.loss == "bce" and last != "sigmoid":
            raise ValueError("the loss bce needs a network whose last activation is sigmoid")
        return self

    @property
    def architecture(self) -> Architecture:
        """The network that is meant."""
        found = load_architecture(self.preset) if self.network is None else self.network
        return found if self.activation is None else found.with_activation(self.activation)


class VAEConfig(AutoencoderConfig):
    """Options of the variational autoencoder."""

    kl: Literal["calibrated", "thesis", "per-latent"] = Field(
        "calibrated",
        description="How the divergence stands beside the error: as a likelihood of the errors' own width, "
        "divided by the numbers of a patch, or divided by the latent size.",
    )
    beta: float = Field(1.0, ge=0, description="Multiplies the divergence.")
    free_bits: float = Field(0.0, ge=0, description="Nats of every unit that cost nothing.")


class DenoisingConfig(AutoencoderConfig):
    """Options of the denoising autoencoder."""

    corruption: str = Field(
        "mixture",
        description="gaussian, cutout or salt-pepper; + for one after the other, commas for one at random; "
        "mixture is one of all their combinations.",
    )

    @field_validator("corruption")
    @classmethod
    def _readable(cls, value: str) -> str:
        from geoae_torch.corruption import parse_corruption  # put off: it imports torch

        try:
            parse_corruption(value)
        except GeoaeError as error:
            raise ValueError(f"{error.message}: {error.hint}") from None
        return value


class SparseConfig(AutoencoderConfig):
    """Options of the sparse autoencoder."""

    # Not the base's: fixed axes would keep the code from being sparse, or from changing less.
    preset: str = Field("residual", description="Network; `geoae networks` lists them.")
    sparsity: Literal["l1", "kl"] = Field(
        "l1", description="Magnitude of the code, or divergence from an activity."
    )
    sparsity_weight: float = Field(1e-3, ge=0, description="Multiplies it.")
    activity: float = Field(0.05, gt=0, lt=1, description="Mean activity that kl aims at.")


class ContractiveConfig(AutoencoderConfig):
    """Options of the contractive autoencoder."""

    preset: str = Field("residual", description="Network; `geoae networks` lists them.")
    contraction: float = Field(
        1e-4, ge=0, description="Multiplies the squared norm of the code's derivative by the image."
    )
    probes: int | None = Field(
        1, ge=1, description="Random directions that the norm is estimated from; none computes it exactly."
    )


class DenseConfig(AutoencoderConfig):
    """Options of the dense autoencoder."""

    preset: str = Field("dense", description="Network; `geoae networks` lists them.")
