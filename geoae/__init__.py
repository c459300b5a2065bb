"""geoae: latent representations of co-registered imagery, elevation and labels.

The public functions are attributes of this package, imported when they are first used, so that
``import geoae`` and ``geoae --help`` stay fast::

    import geoae
    geoae.ingest("us3d/")
    cube = geoae.open_cube("us3d.zarr")
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

ORDER = (
    "errors",
    "grid",
    "schema",
    "provenance",
    "encoder",
    "catalog",
    "raster",
    "scene",
    "flushing",
    "location",
    "chunks",
    "store",
    "commits",
    "pixels",
    "warp",
    "align",
    "patches",
    "selection",
    "planning",
    "drafts",
    "checks",
    "journal",
    "shards",
    "tables",
    "cube",
    "layers",
    "footprints",
    "mixing",
    "normalisation",
    "sections",
    "batches",
    "workers",
    "assembly",
    "ingestion",
    "splits",
    "dataset",
    "registry",
    "calls",
    "models",
    "fitting",
    "latents",
    "encoding",
    "attachments",
    "verification",
    "summaries",
    "kmeans",
    "clusters",
    "projections",
    "repairs",
    "comparison",
    "collection",
    "citations",
    "plots",
    "exports",
    "sweeps",
    "testing",
    "doctor",
    "demo",
    "cli",
)
"""Import order: a module imports only from those before it. A test enforces it."""

_PUBLIC = {
    "attach": "attachments",
    "cite": "citations",
    "cluster": "clusters",
    "diff": "comparison",
    "encode": "encoding",
    "export_geopackage": "exports",
    "export_geoparquet": "exports",
    "export_rasters": "exports",
    "export_latents": "exports",
    "find_scenes": "scene",
    "fit": "fitting",
    "ingest": "ingestion",
    "load_catalog": "catalog",
    "open_cube": "dataset",
    "open_cubes": "collection",
    "project": "projections",
    "repair": "repairs",
    "split": "splits",
    "summarize": "summaries",
    "sweep_latent": "sweeps",
    "sweep_networks": "sweeps",
    "sweep_patch_size": "sweeps",
    "verify": "verification",
}
"""Public name -> module that defines it. No module is named like a function: importing
``geoae.cluster`` would otherwise replace the function by the module."""

__all__ = ["ORDER", "__version__", *sorted(_PUBLIC)]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(f"geoae.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module 'geoae' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
