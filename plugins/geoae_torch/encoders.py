"""The encoders: one training for all, each with an objective of its own."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from pydantic import ValidationError

from geoae.encoder import Encoder, EncoderConfig, FitContext, FitReport, FloatArray, PatchBatch, PatchSource
from geoae.errors import GeoaeError, PluginError
from geoae_torch import options
from geoae_torch.architecture import Architecture
from geoae_torch.axes import find_axes
from geoae_torch.corruption import Corruption, parse_corruption
from geoae_torch.feed import as_it_lies, make_feed
from geoae_torch.measures import measure
from geoae_torch.networks import Autoencoder, build
from geoae_torch.objectives import Objective, Penalty, jacobian_penalty, kl_penalty, sparsity_penalty
from geoae_torch.shapes import Plan, plan
from geoae_torch.threads import OneThread
from geoae_torch.training import Outcome, Recipe, device_of, train
from geoae_torch.weights import check_tensors, digest, read_tensors, write_tensors

__all__ = [
    "AutoencoderEncoder",
    "ContractiveEncoder",
    "ConvEncoder",
    "DenoisingEncoder",
    "DenseEncoder",
    "SparseEncoder",
    "VAEEncoder",
]

WEIGHTS, NETWORK = "network.safetensors", "network.json"

_BYTES = {"cpu": 56 << 20, "cuda": 256 << 20}
"""Of the widest layer of patches that are encoded at a time."""


class AutoencoderEncoder(Encoder):
    """What the encoders share: build, train, encode, decode, save and load a network.

    Parameters
    ----------
    config
        Options.
    """

    Config: ClassVar[type[EncoderConfig]] = options.AutoencoderConfig
    normalisation = "unit"
    has_decoder: ClassVar[bool] = True
    variational: ClassVar[bool] = False
    """Whether the code has a mean and a variance."""

    config: options.AutoencoderConfig

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(config)
        self._network: Autoencoder | None = None

    def penalties(self) -> tuple[Penalty, ...]:
        """Return what is added to the error."""
        return ()

    def corruption(self) -> tuple[tuple[Corruption, ...], ...]:
        """Return what is done to patches before they are encoded in training."""
        return ()

    @property
    def latent_dim(self) -> int:
        """Length of the latent vector: the option, or the network's own length."""
        if self._network is not None:
            return self._network.plan.latent_dim
        return self.config.latent_dim or self.config.architecture.latent_dim or 1

    def use_device(self, device: str) -> None:
        """Move the network to a device.

        Parameters
        ----------
        device
            ``auto`` takes a GPU if there is one; ``cpu``; ``cuda``.

        Raises
        ------
        GeoaeError
            If there is no such device.
        """
        self._need().to(device_of(device))

    def single_threaded(self) -> OneThread | None:
        """Let several threads encode at a time on a processor; a GPU takes one batch after the other."""
        return OneThread() if next(self._need().parameters()).device.type == "cpu" else None

    def fit(self, patches: PatchSource, context: FitContext) -> FitReport:
        """Train the network.

        Parameters
        ----------
        patches
            The training patches.
        context
            Validation patches decide which weights are kept. Its folder gets checkpoints, from which an equal
            fit goes on, and ``logs/log.jsonl``.

        Returns
        -------
        FitReport
            Errors, and what the code is like, on the validation patches, or on training patches without.

        Raises
        ------
        GeoaeError
            If there is no patch, pixels are not finite, or the device does not exist.
        UsageError
            If the network does not fit the patches.
        """
        config = self.config
        device = device_of(context.device)
        if not len(patches):
            raise GeoaeError("there is no patch to train on", hint="lower --min-valid, or use another split")
        sizes = self._plan(patches)
        network = build(sizes, seed=config.seed, device=device)
        recipe = self._recipe(network, device)
        feed = make_feed(patches, device)
        find_axes(network, feed, turned=config.augment, seed=config.seed)
        held_out = context.validation
        validation = None if held_out is None or not len(held_out) else make_feed(held_out, device)
        outcome = train(network, feed, validation, recipe, context, device)
        self._use(network)
        figures, curves = measure(network, feed if validation is None else validation, device)
        if not all(math.isfinite(value) for value in figures.values()):
            self._network = None
            raise GeoaeError("the trained network gives no finite numbers", hint="lower --learning-rate")
        return FitReport(
            patches=len(patches),
            metrics={"parameters": float(sizes.parameters), "steps": float(outcome.steps), **figures},
            curves={**outcome.curves, **curves},
            notes=self._notes(patches, outcome, validated=validation is not None),
        )

    def _plan(self, patches: PatchSource) -> Plan:
        return plan(
            self.config.architecture,
            patch=patches.patch_shape,
            bands=len(patches.channels),
            out_bands=len(patches.target_channels),
            latent_dim=self.config.latent_dim,
            variational=self.variational,
        )

    def _recipe(self, network: Autoencoder, device: torch.device) -> Recipe:
        config = self.config
        objective = Objective(
            kind=config.loss,
            output=network.output_activation,
            penalties=self.penalties(),
            balance=config.balance,
            input_gradient=isinstance(config, options.ContractiveConfig),
        )
        fields = [name for name in Recipe.__dataclass_fields__ if hasattr(config, name)]
        shared: dict[str, Any] = {name: getattr(config, name) for name in fields}
        shared["corruption"] = self.corruption()
        half = config.precision == "bfloat16" or (config.precision == "auto" and device.type == "cuda")
        return Recipe(**shared, objective=objective, half=half)

    def _notes(self, patches: PatchSource, outcome: Outcome, *, validated: bool) -> tuple[str, ...]:
        notes = list(outcome.notes)
        if self.latent_dim >= len(patches):
            notes.append(
                f"the latent vector has {self.latent_dim} numbers for {len(patches)} training patches: "
                "they can be learned by heart"
            )
        numbers = len(patches.channels) * int(np.prod(patches.patch_shape))
        if self.latent_dim >= numbers:
            notes.append(f"the latent vector is not smaller than the patch, which has {numbers} numbers")
        if not validated:
            notes.append("no validation patches: the last weights are kept, figures are of training patches")
        return tuple(notes)

    def _use(self, network: Autoencoder) -> None:
        self._network = network
        # Of this encoder, not of its class: unpooling needs more than a latent vector.
        self.has_decoder = not network.plan.needs_indices  # type: ignore[misc]

    def _need(self) -> Autoencoder:
        if self._network is None:
            raise ValueError("the encoder is not fitted: call fit or load first")
        return self._network

    def variables(self, batch: PatchBatch) -> Mapping[str, FloatArray]:
        """Compute ``z``, and ``log_var`` where the code has a variance; the mean is ``z``."""
        network = self._need()
        expected = network.plan.bands, *network.plan.patch
        if batch.image.ndim != 4 or batch.image.shape[1:] != expected:
            raise ValueError(f"patches of shape {batch.image.shape[1:]}, not {expected} as in training")
        device = next(network.parameters()).device
        found: dict[str, list[FloatArray]] = {"z": []}
        with torch.inference_mode():
            for rows in self._portions(len(batch)):
                code = network.encode(as_it_lies(batch.image[rows], device))
                found["z"].append(code.mean.float().cpu().numpy())
                if code.log_var is not None:
                    found.setdefault("log_var", []).append(code.log_var.float().cpu().numpy())
        if not len(batch):
            return {"z": np.empty((0, self.latent_dim), np.float32)}
        return {name: np.concatenate(parts) for name, parts in found.items()}

    def transform(self, batch: PatchBatch) -> FloatArray:
        """Compute latent vectors; the mean of the distribution where there is one."""
        return self.variables(batch)["z"]

    def reconstruct(self, z: FloatArray) -> FloatArray:
        """Compute images from latent vectors, in the scale of the target, ``(n, channel, y, x)`` float32."""
        network = self._need()
        device = next(network.parameters()).device
        codes = torch.from_numpy(np.array(z, np.float32))
        image = np.empty((len(codes), network.plan.out_bands, *network.plan.patch), np.float32)
        with torch.inference_mode():
            for rows in self._portions(len(codes)):
                # By torch, which changes the order of axes by all threads.
                torch.from_numpy(image[rows]).copy_(network.decode(codes[rows].to(device)))
        return image

    def _portions(self, count: int) -> list[slice]:
        """Divide patches so that their widest layer stays in bounds."""
        network = self._need()
        widest = max(math.prod(step.outputs) for step in network.plan.steps)
        most = _BYTES[next(network.parameters()).device.type]
        rows = max(min(most // (4 * widest), 256), 1)
        return [slice(start, min(start + rows, count)) for start in range(0, count, rows)]

    def save(self, folder: Path) -> None:
        """Write the weights as safetensors, and the network with their digest as JSON."""
        network = self._need()
        sizes = network.plan
        document = {
            "weights": write_tensors(folder / WEIGHTS, network.state_dict()),
            "architecture": sizes.architecture.model_dump(mode="json"),
            "patch": list(sizes.patch),
            "bands": sizes.bands,
            "out_bands": sizes.out_bands,
            "latent_dim": sizes.latent_dim,
            "variational": sizes.variational,
        }
        (folder / NETWORK).write_text(json.dumps(document, indent=1, sort_keys=True) + "\n", "utf-8")

    @classmethod
    def load(cls, folder: Path, config: Any) -> Self:
        """Read what `save` wrote.

        Raises
        ------
        PluginError
            If a file is missing or damaged, or the weights are not those of the network.
        """
        hint = "fit the encoder again, or restore the model folder from a copy"
        try:
            document = json.loads((folder / NETWORK).read_text("utf-8"))
            sizes = plan(
                Architecture.model_validate(document["architecture"]),
                patch=(int(document["patch"][0]), int(document["patch"][1])),
                bands=document["bands"],
                out_bands=document["out_bands"],
                latent_dim=document["latent_dim"],
                variational=document["variational"],
            )
            expected = document["weights"]
        except (OSError, ValueError, KeyError, TypeError, IndexError, ValidationError, GeoaeError) as error:
            said = f"{type(error).__name__}: {error}".splitlines()[0]
            raise PluginError(f"{NETWORK} cannot be read ({said})", hint=hint) from None
        if sizes.variational != cls.variational:
            raise PluginError(f"{NETWORK} describes another kind of network than {cls.__name__}'s", hint=hint)
        if config.latent_dim not in (None, sizes.latent_dim):
            raise PluginError(
                f"{NETWORK} has a latent size of {sizes.latent_dim}, the options {config.latent_dim}",
                hint=hint,
            )
        path = folder / WEIGHTS
        tensors, _ = read_tensors(path)
        network = build(sizes, draw=False)
        check_tensors(tensors, network.state_dict(), WEIGHTS)
        if digest(path) != expected:
            raise PluginError(f"{WEIGHTS} was changed after it was written", hint=hint)
        network.load_state_dict(tensors)
        network.eval()
        encoder = cls(config)
        encoder._use(network)
        return encoder


class ConvEncoder(AutoencoderEncoder):
    """Autoencoder: a network that must pass a patch through a short vector.

    Any preset or network of one's own; by default principal axes, and convolutions that mend what they make.
    """


class DenseEncoder(AutoencoderEncoder):
    """Autoencoder of dense layers: the multi-layer perceptron that convolutions are compared to."""

    Config: ClassVar[type[EncoderConfig]] = options.DenseConfig


class VAEEncoder(AutoencoderEncoder):
    """Variational autoencoder: a patch becomes a normal distribution, of which the mean is the latent vector.

    The logarithm of its variance is stored as well.

    References
    ----------
    .. [1] D. Kingma, M. Welling, Auto-encoding variational Bayes, 2014.
    """

    Config: ClassVar[type[EncoderConfig]] = options.VAEConfig
    variational: ClassVar[bool] = True
    config: options.VAEConfig

    def penalties(self) -> tuple[Penalty, ...]:
        """Return the divergence from a standard normal distribution."""
        config = self.config
        return (kl_penalty(config.kl, config.loss, beta=config.beta, free_bits=config.free_bits),)


class DenoisingEncoder(AutoencoderEncoder):
    """Denoising autoencoder: it sees corrupted patches in training, and must give them back clean."""

    Config: ClassVar[type[EncoderConfig]] = options.DenoisingConfig
    config: options.DenoisingConfig

    def corruption(self) -> tuple[tuple[Corruption, ...], ...]:
        """Return the corruption that is asked for."""
        return parse_corruption(self.config.corruption)


class SparseEncoder(AutoencoderEncoder):
    """Sparse autoencoder: few numbers of the latent vector are far from zero."""

    Config: ClassVar[type[EncoderConfig]] = options.SparseConfig
    config: options.SparseConfig

    def penalties(self) -> tuple[Penalty, ...]:
        """Return the cost of activity."""
        config = self.config
        return (sparsity_penalty(config.sparsity, config.sparsity_weight, config.activity),)


class ContractiveEncoder(AutoencoderEncoder):
    """Contractive autoencoder: the latent vector changes little where the patch changes little.

    References
    ----------
    .. [1] S. Rifai et al., Contractive auto-encoders: explicit invariance during feature extraction, 2011.
    """

    Config: ClassVar[type[EncoderConfig]] = options.ContractiveConfig
    config: options.ContractiveConfig

    def penalties(self) -> tuple[Penalty, ...]:
        """Return the squared norm of the Jacobian."""
        return (jacobian_penalty(self.config.contraction, self.config.probes),)
