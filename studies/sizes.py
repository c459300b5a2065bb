"""How large the study is: small enough for two cores and a coffee, or as the documents have it."""

from dataclasses import dataclass

__all__ = ["NETWORK", "SIZES", "Size"]

NETWORK = "thesis-a8"
"""The network of all that does not compare networks: the one that the thesis chose, and quick to train."""


@dataclass(frozen=True)
class Size:
    """Numbers of a study.

    Parameters
    ----------
    tiles
        Synthetic tiles of each of the two cities, one view of 512 x 512 pixels each.
    patches, validation
        Sections that networks are trained and measured on.
    thesis_epochs, network_epochs, network_seeds
        Of the sweeps over networks, whose sections have 128 pixels: of those trained as printed, in batches
        of 128, and of the others, in batches of 32.
    side
        Side of the sections of all else, in pixels.
    steps
        Training steps of all else, of 32 sections each.
    seeds
        Seeds of all else.
    latent_dims
        Of the sweep over latent sizes.
    amounts
        Numbers of training sections whose errors are compared.
    """

    tiles: int
    patches: int
    validation: int
    thesis_epochs: int
    network_epochs: int
    network_seeds: int
    side: int
    steps: int
    seeds: int
    latent_dims: tuple[int, ...]
    amounts: tuple[int, ...]


SIZES = {
    "tiny": Size(4, 64, 32, 1, 1, 1, 64, 4, 2, (4, 8, 16), (16, 32)),
    "small": Size(30, 768, 200, 12, 5, 1, 64, 400, 3, (8, 16, 32, 50, 128, 512), (48, 192, 768, 2400)),
    "full": Size(
        30, 3000, 200, 50, 50, 3, 128, 2200, 3, (8, 16, 32, 50, 64, 128, 256, 512, 1024), (48, 192, 768, 3000)
    ),
}
"""By name; ``tiny`` is for tests."""
