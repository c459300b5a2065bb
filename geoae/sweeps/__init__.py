"""Sweeps: one training after another, over networks, latent sizes or patch sizes, each written down."""

from geoae.sweeps.latent import sweep_latent
from geoae.sweeps.networks import sweep_networks
from geoae.sweeps.patch_size import sweep_patch_size
from geoae.sweeps.running import Data
from geoae.sweeps.tables import SweepReport

__all__ = ["Data", "SweepReport", "sweep_latent", "sweep_networks", "sweep_patch_size"]
