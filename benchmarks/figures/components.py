"""Principal components from the cube beside scikit-learn's of the same matrix in memory."""

from typing import TYPE_CHECKING

import numpy as np

from benchmarks.figures import Figure
from benchmarks.measure import Setting, Work

if TYPE_CHECKING:
    from geoae.batches import CubePatches

COMPONENTS = 64
INPUT = "rgb"


def _source(setting: Setting) -> "CubePatches":
    from geoae.batches import CubePatches, fit_normalisation, parse_input, usable_rows
    from geoae.cube import Cube

    cube = Cube.open(setting.cube)
    channels = parse_input(cube, INPUT)
    rows = usable_rows(cube, channels)[: setting.rows]
    return CubePatches(cube, channels, fit_normalisation(cube, channels, rows, "standard"), rows=rows)


def streamed(setting: Setting) -> Work:
    """Fit geoae's encoder: reads the cube several times."""
    from geoae.encoder import FitContext
    from geoae_pca import PCAEncoder

    source = _source(setting)
    encoder = PCAEncoder(PCAEncoder.Config(latent_dim=COMPONENTS))

    def work() -> dict[str, float]:
        return dict(encoder.fit(source, FitContext()).metrics)

    return work


def resident(setting: Setting) -> Work:
    """Fit scikit-learn's randomized solver on the matrix, which is read before."""
    from sklearn.decomposition import PCA

    source = _source(setting)
    matrix = np.concatenate([batch.image.reshape(len(batch), -1) for batch in source.batches(256)])
    model = PCA(min(COMPONENTS, len(matrix) - 1), svd_solver="randomized", random_state=0)

    def work() -> dict[str, float]:
        model.fit(matrix)
        return {"explained_variance_ratio": float(model.explained_variance_ratio_.sum())}

    return work


def _rows(setting: Setting) -> tuple[int, str]:
    return min(setting.rows, setting.scenes * (setting.size // min(128, setting.size)) ** 2), "patches"


FIGURES = (
    Figure(
        "pca",
        "PCA, 64 components of 49,152 features",
        "peer: scikit-learn, randomized, in memory",
        {"geoae": streamed, "other": resident},
        "speed",
        3.0,
        quality="explained_variance_ratio",
        slack=0.001,
        amount=_rows,
    ),
)
