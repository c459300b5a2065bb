"""Principal axes beside a network: what a linear code does well need not be learned step by step.

The best linear variational autoencoder is probabilistic principal component analysis [1]_, which needs one
look at the patches and no training. A network with ``principal_axes`` begins as that, exactly: its layers add
nothing at first, and learn what straight lines miss. The decoder's see the image that the axes make, so that
convolutions can mend it, the same everywhere. The axes are found on patches made smaller, which holds
nearly all of their variance, and stay as they are.

References
----------
.. [1] J. Lucas, G. Tucker, R. Grosse, M. Norouzi, Don't blame the ELBO! A linear VAE perspective on posterior
   collapse, 2019.
"""

import math

import torch
import torch.nn.functional as F  # noqa: N812 (torch's own abbreviation)
from torch import Tensor, nn

from geoae_torch.corruption import turn
from geoae_torch.feed import Feed
from geoae_torch.sizes import smaller

__all__ = ["PrincipalAxes", "find_axes"]

_BATCH = 64
_ROUNDS = 6
_SPARE = 16
_NOTHING = 1e-7
"""Share of the largest variance below which an axis is rounding."""


class PrincipalAxes(nn.Module):
    """A linear encoder and decoder of patches that were made smaller. All of it is fixed once it is fitted.

    Parameters
    ----------
    patch
        ``(y, x)`` pixels.
    bands, out_bands
        Channels of the input and of the image that is produced.
    latent_dim
        Length of the code.
    device
        Where.
    """

    def __init__(
        self,
        patch: tuple[int, int],
        bands: int,
        out_bands: int,
        latent_dim: int,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        self.patch = patch
        self.inner, self.outer = smaller(patch, bands), smaller(patch, out_bands)
        self.bands, self.out_bands, self.latent_dim = bands, out_bands, latent_dim
        inputs, outputs = math.prod(self.inner) * bands, math.prod(self.outer) * out_bands
        self.down: Tensor
        self.up: Tensor
        self.input_mean: Tensor
        self.output_mean: Tensor
        self.scale: Tensor
        self.rows: Tensor
        self.columns: Tensor
        self.target_rows: Tensor
        self.target_columns: Tensor
        self.larger_rows: Tensor
        self.larger_columns: Tensor
        for name, shape in {
            "down": (latent_dim, inputs),
            "up": (latent_dim, outputs),
            "input_mean": (inputs,),
            "output_mean": (outputs,),
        }.items():
            self.register_buffer(name, torch.zeros(shape, device=device))
        self.register_buffer("scale", torch.ones((), device=device))
        # Making smaller and larger again are matrices along y and x: faster than torch's on a processor.
        # Along x, channels lie inside: every channel by itself.
        (y, x), eye, out_eye = patch, torch.eye(bands), torch.eye(out_bands)
        for name, matrix in {
            "rows": _area(y, self.inner[0]),
            "columns": torch.kron(_area(x, self.inner[1]), eye),
            "target_rows": _area(y, self.outer[0]),
            "target_columns": torch.kron(_area(x, self.outer[1]), out_eye),
            "larger_rows": _lines(self.outer[0], y),
            "larger_columns": torch.kron(_lines(self.outer[1], x), out_eye),
        }.items():
            self.register_buffer(name, matrix.to(device), persistent=False)

    def encode(self, images: Tensor) -> Tensor:
        """Compute ``(n, latent_dim)``: uncorrelated, of variance one on the patches that were seen."""
        with torch.autocast("cuda" if images.is_cuda else "cpu", enabled=False):
            return (_reduced(images, self.rows, self.columns) - self.input_mean) @ self.down.T

    def picture(self, z: Tensor) -> Tensor:
        """Compute what codes add to the mean, ``(n, band, y, x)`` smaller images of deviation one."""
        with torch.autocast("cuda" if z.is_cuda else "cpu", enabled=False):
            small: Tensor = z.float() @ (self.up / self.scale)
        return small.view(len(z), *self.outer, self.out_bands).permute(0, 3, 1, 2)

    def enlarge(self, picture: Tensor) -> Tensor:
        """Make patches ``(n, band, y, x)`` of what `picture` gives, channels last."""
        with torch.autocast("cuda" if picture.is_cuda else "cpu", enabled=False):
            small = picture.float().permute(0, 2, 3, 1).flatten(1) * self.scale + self.output_mean
            flat = small.view(len(small), self.outer[0], -1)  # (n, y, x * band)
            image: Tensor = (self.larger_rows @ flat) @ self.larger_columns.T
        return image.view(len(image), *self.patch, self.out_bands).permute(0, 3, 1, 2)

    def decode(self, z: Tensor) -> Tensor:
        """Compute images ``(n, band, y, x)``, channels last."""
        return self.enlarge(self.picture(z))

    @torch.no_grad()
    def fit(self, feed: Feed, *, turned: bool = False, seed: int = 0) -> Tensor:
        """Find the axes.

        Parameters
        ----------
        feed
            The patches.
        turned
            Count every patch in all its flips and quarter turns, as training with `augment` shows it.
        seed
            Of the directions that the search begins with.

        Returns
        -------
        torch.Tensor
            ``(latent_dim,)``: for each unit the variance of the code with which its noise costs as much as
            knowing it brings, from the variance that the axes explain and the errors that they leave.
        """
        count, total, produced, products, crossed = self._moments(feed)
        mean, goal = total / count, produced / count
        products, crossed = products / count, crossed / count
        if turned:
            mean, goal, products, crossed = self._turned(mean, goal, products, crossed)
        products -= torch.outer(mean, mean)
        crossed -= torch.outer(mean, goal)
        variance, axes = _largest(products, self.latent_dim, seed)
        used = variance > _NOTHING * variance[:1].clamp(min=1e-12)
        deviation = torch.where(used, variance.clamp(min=0), 1.0).sqrt()
        directions = torch.where(used, axes / deviation, 0.0)  # (number, axis)
        self.down.zero_()[: len(used)] = directions.T.float()
        self.up.zero_()[: len(used)] = (directions.T @ crossed).float()
        deviation = self.up.square().sum(0).mean().sqrt()
        self.scale.copy_(torch.where(deviation > 0, deviation, 1.0))
        self.input_mean.copy_(mean)
        self.output_mean.copy_(goal)
        return self._spread(feed)

    def _moments(self, feed: Feed) -> tuple[int, Tensor, Tensor, Tensor, Tensor]:
        """Sum over patches: inputs, targets, products of inputs, products of inputs and targets."""
        like = {"dtype": torch.float64, "device": self.down.device}
        inputs, outputs = len(self.input_mean), len(self.output_mean)
        total, produced = torch.zeros(inputs, **like), torch.zeros(outputs, **like)  # type: ignore[call-overload]
        products = torch.zeros((inputs, inputs), **like)  # type: ignore[call-overload]
        crossed = products
        for patches in feed.batches(4 * _BATCH):
            seen = _reduced(patches.image, self.rows, self.columns)
            total += seen.sum(0, dtype=torch.float64)
            products += seen.T @ seen
            if patches.target is patches.image:
                continue
            if crossed is products:
                crossed = torch.zeros((inputs, outputs), **like)  # type: ignore[call-overload]
            wanted = _reduced(patches.target, self.target_rows, self.target_columns)
            produced += wanted.sum(0, dtype=torch.float64)
            crossed += seen.T @ wanted
        if crossed is products:
            return len(feed), total, total.clone(), products, products.clone()
        return len(feed), total, produced, products, crossed

    def _turned(self, mean: Tensor, goal: Tensor, products: Tensor, crossed: Tensor) -> tuple[Tensor, ...]:
        """Average moments over all flips and turns, by changing places: no patch is seen again."""
        square = self.patch[0] == self.patch[1]
        results = [torch.zeros_like(m) for m in (mean, goal, products, crossed)]
        variants = 8 if square else 4
        for variant in range(variants):
            i = _places(self.inner, self.bands, variant).to(mean.device)
            o = _places(self.outer, self.out_bands, variant).to(mean.device)
            for result, part in zip(
                results, (mean[i], goal[o], products[i][:, i], crossed[i][:, o]), strict=True
            ):
                result += part / variants
        return tuple(results)

    def _spread(self, feed: Feed) -> Tensor:
        """Return the variance of the code at which its noise and its errors balance."""
        squared, known = 0.0, 0.0
        for number, patches in enumerate(feed.batches(_BATCH)):
            lost = self.decode(self.encode(patches.image)) - patches.target
            weight = patches.target_valid
            known += float(lost.numel() if weight is None else weight.expand_as(lost).sum())
            squared += float((lost if weight is None else lost * weight).square().sum())
            if number >= 3:  # of some hundred patches: it need not be exact
                break
        error = squared / max(known, 1) + 1e-8
        enlarged = math.prod(self.patch) / math.prod(self.outer)
        return error / (self.up.square().sum(1) * enlarged + error)


def find_axes(network: nn.Module, feed: Feed, *, turned: bool, seed: int) -> None:
    """Fit the axes of a network that has some, and let its log-variance begin where they say.

    Parameters
    ----------
    network
        Changed.
    feed, turned, seed
        See `PrincipalAxes.fit`.
    """
    axes = getattr(network, "axes", None)
    if not isinstance(axes, PrincipalAxes):
        return
    variance = axes.fit(feed, turned=turned, seed=seed)
    head = getattr(getattr(network, "log_var", None), "body", None)
    if isinstance(head, nn.Linear):
        head.bias.data.copy_(variance.log())


def _largest(matrix: Tensor, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return the largest eigenvalues of a symmetric matrix, descending, and their vectors as columns."""
    size = len(matrix)
    if 4 * (count + _SPARE) >= size:
        values, vectors = torch.linalg.eigh(matrix)
        return values.flip(0)[:count], vectors.flip(1)[:, :count]
    generator = torch.Generator().manual_seed(seed)
    base = torch.randn((size, count + _SPARE), generator=generator, dtype=torch.float64).to(matrix.device)
    for _ in range(_ROUNDS):
        base = torch.linalg.qr(matrix @ base).Q
    values, vectors = torch.linalg.eigh(base.T @ matrix @ base)
    return values.flip(0)[:count], (base @ vectors.flip(1))[:, :count]


def _reduced(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Make ``(n, band, y, x)`` smaller, ``(n, number)`` in the order y, x, channel."""
    flat = images.float().permute(0, 2, 3, 1).flatten(2)  # (n, y, x * band)
    return ((rows @ flat) @ columns.T).flatten(1)


def _area(size: int, target: int) -> Tensor:
    """Return the matrix ``(target, size)`` that averages pixels."""
    return F.adaptive_avg_pool1d(torch.eye(size)[None], target)[0].T.contiguous()


def _lines(size: int, target: int) -> Tensor:
    """Return the matrix ``(target, size)`` that interpolates between pixel centres."""
    lines = F.interpolate(torch.eye(size)[None], target, mode="linear", align_corners=False)
    return lines[0].T.contiguous()


def _places(size: tuple[int, int], bands: int, variant: int) -> Tensor:
    """Return where each number of a flipped or turned patch comes from."""
    numbers = torch.arange(math.prod(size) * bands).view(1, *size, bands).permute(0, 3, 1, 2)
    return turn(numbers, variant).permute(0, 2, 3, 1).flatten()
