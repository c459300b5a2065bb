"""Linear encoders: principal components, and the random projection that others are compared to.

The package to copy when writing an encoder: it depends on numpy, safetensors and the contract in
`geoae.encoder`, and nothing in geoae knows it but an entry point.
"""

from geoae_pca.pca import PCAConfig, PCAEncoder
from geoae_pca.random_projection import RandomProjectionConfig, RandomProjectionEncoder

__all__ = ["PCAConfig", "PCAEncoder", "RandomProjectionConfig", "RandomProjectionEncoder"]
