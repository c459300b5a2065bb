"""Shuffled batches from the cube beside batches from memory."""

import numpy as np

from benchmarks.figures import Figure
from benchmarks.measure import Setting, Work, cores

BATCH = 128
MODALITY = "msi"


def stored(setting: Setting) -> Work:
    """One epoch from the cube: decoded, mixed, normalised, with masks."""
    from geoae.batches import CubePatches, fit_normalisation, parse_input, usable_rows
    from geoae.cube import Cube

    cube = Cube.open(setting.cube)
    channels = parse_input(cube, MODALITY)
    rows = usable_rows(cube, channels)
    source = CubePatches(cube, channels, fit_normalisation(cube, channels, rows, "unit"), rows=rows)

    def work() -> dict[str, float]:
        scene = cube.table()["scene_number"].to_numpy()
        patches = least = 0
        for batch in source.batches(BATCH, shuffle_seed=1):
            patches += len(batch)
            mixed = len(np.unique(scene[batch.index]))
            least = mixed if patches == len(batch) else min(least, mixed) if len(batch) == BATCH else least
        return {"patches": patches, "scenes_mixed": least}

    return work


def resident(setting: Setting) -> Work:
    """One epoch from an array in memory: rows by a random index, converted to float. No masks, no scaling."""
    from geoae.cube import Cube

    values = np.asarray(Cube.open(setting.cube).array(MODALITY)[...])
    order = np.random.default_rng(1).permutation(len(values))
    try:
        import torch
    except ImportError:

        def work() -> dict[str, float]:
            for start in range(0, len(order), BATCH):
                values[order[start : start + BATCH]].astype(np.float32)
            return {"patches": len(order)}

        return work
    torch.set_num_threads(cores())
    tensor, index = torch.from_numpy(values), torch.from_numpy(order)

    def work_torch() -> dict[str, float]:
        for start in range(0, len(order), BATCH):
            tensor.index_select(0, index[start : start + BATCH]).float()
        return {"patches": len(order)}

    return work_torch


def _patches(setting: Setting) -> tuple[int, str]:
    return setting.scenes * (setting.size // min(128, setting.size)) ** 2, "patches"


FIGURES = (
    Figure(
        "batches",
        "shuffled batches of 128 patches of 8 bands",
        "peer: index_select in memory, to float",
        {"geoae": stored, "other": resident},
        "speed",
        0.5,
        amount=_patches,
    ),
)
