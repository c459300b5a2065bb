"""A data set of as many scenes as US3D has: memory of ingest, and a cube to look at.

Its scenes are sparse: their headers are real, their pixels are not stored.
"""

import shutil

from benchmarks.figures import Figure
from benchmarks.figures.ingestion import make_cube, remove_fresh
from benchmarks.measure import Setting, Work
from benchmarks.scenes import write_sparse_scenes

SIDE = 128
_TINY = 8
"""Side of a patch of the cube that is looked at: tables and folders are of full size, pixels are not."""


def _scene_side(setting: Setting) -> int:
    return min(setting.size, 1024)


def make_sources(setting: Setting) -> None:
    """Write all scenes, and a quarter of them."""
    for number in (setting.views, _quarter(setting)):
        write_sparse_scenes(setting.sparse(number, _scene_side(setting)), number, _scene_side(setting))


def make_full_cube(setting: Setting) -> None:
    """Make a cube of all views, 64 patches each."""
    source = setting.sparse(setting.views, 8 * _TINY)
    write_sparse_scenes(source, setting.views, 8 * _TINY)
    make_cube(source, setting.full_cube, _TINY)


def _quarter(setting: Setting) -> int:
    return max(setting.views // 4, 1)


def _ingest(setting: Setting, number: int) -> Work:
    from geoae.ingestion import ingest

    remove_fresh(setting.folder)  # ingest asks for room as if pixels were stored
    out = setting.folder / "sparse.zarr"
    for path in (out, out.with_name(out.name + ".work")):
        shutil.rmtree(path, ignore_errors=True)

    def work() -> dict[str, float]:
        side = _scene_side(setting)
        report = ingest(setting.sparse(number, side), out=out, patch=min(SIDE, side))
        return {"patches": report.plan.patches.n_patches}

    return work


FIGURES = (
    Figure(
        "ingest-full",
        "ingest, as many scenes as US3D, sparse",
        "a quarter of them (memory must be flat)",
        {
            "geoae": lambda setting: _ingest(setting, setting.views),
            "other": lambda setting: _ingest(setting, _quarter(setting)),
        },
        "memory",
        1.1,
        amount=lambda setting: (setting.views, "scenes"),
        prepare=make_sources,
        most=650e6,
        once=True,
    ),
)
