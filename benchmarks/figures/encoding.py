"""Encoding beside its floor; memory of training and encoding beside that of a quarter of the patches."""

import shutil
import time
from importlib.util import find_spec
from pathlib import Path

from benchmarks.figures import Figure
from benchmarks.measure import Setting, Work

INPUT = "msi"
MODEL = "bench-vae"
BATCH = 256
_MOST = 4e9


def _quarter_cube(setting: Setting) -> Path:
    return setting.folder / f"{setting.source.name}-quarter.zarr"


def make_models(setting: Setting) -> None:
    """Make a cube of a quarter of the scenes, and a model for both cubes."""
    from geoae.ingestion import ingest
    from geoae.planning import Selection

    selection = Selection(limit=max(setting.scenes // 4, 1))
    ingest(setting.source, out=_quarter_cube(setting), patch=min(128, setting.size), selection=selection)
    _fit(_quarter_cube(setting), MODEL)


def _fit(cube: Path, name: str) -> None:
    from geoae.fitting import fit

    options = {"preset": "thesis-a8", "latent_dim": 1024, "batch_size": 32, "steps": 3}
    fit(str(cube), plugin="vae", options=options, input=INPUT, name=name)


def _model(setting: Setting) -> str:
    quarter = _quarter_cube(setting)
    return str(quarter.with_name(f"{quarter.name}.models") / MODEL)


def _keep_freed_memory() -> None:
    from geoae.cli.memory import keep_freed_memory

    keep_freed_memory()  # as the commands do


def encoded(setting: Setting, cube: Path) -> Work:
    """Encode all patches of a cube and write the layer."""
    from geoae.cube import Cube
    from geoae.encoding import encode
    from geoae.models import load_model

    _keep_freed_memory()
    load_model(Cube.open(str(cube)), _model(setting))  # imports torch, which is not encoding

    def work() -> dict[str, float]:
        report = encode(str(cube), model=_model(setting), name="bench", overwrite=True)
        return {"patches": report.encoded}

    return work


def floor(setting: Setting) -> Work:
    """Read all patches without computing; compute what is stored of as many in memory; the longer counts.

    Both use all cores, so that on a processor even their sum is hard to reach: it is noted as well.
    """
    from geoae.batches import CubePatches, fit_normalisation, parse_input, usable_rows
    from geoae.calls import compute
    from geoae.cube import Cube
    from geoae.models import load_model

    _keep_freed_memory()
    cube = Cube.open(str(setting.cube))
    channels = parse_input(cube, INPUT)
    rows = usable_rows(cube, channels)
    source = CubePatches(cube, channels, fit_normalisation(cube, channels, rows[:BATCH], "unit"), rows=rows)
    encoder = load_model(cube, _model(setting)).encoder
    batch = next(iter(source.batches(min(BATCH, len(rows)))))
    compute(encoder, batch, MODEL)

    def work() -> dict[str, float]:
        begun, used = time.perf_counter(), time.process_time()
        patches = sum(len(read) for read in source.batches(BATCH))
        reading, read_cpu = time.perf_counter() - begun, time.process_time() - used
        begun, used = time.perf_counter(), time.process_time()
        for _ in range(-(-patches // len(batch))):
            compute(encoder, batch, MODEL)  # vectors, their variance, and errors by patch and band
        computing, compute_cpu = time.perf_counter() - begun, time.process_time() - used
        seconds, cpu = max((reading, read_cpu), (computing, compute_cpu))
        return {
            "patches": patches, "seconds": seconds, "cpu": cpu, "reading": reading, "computing": computing,
            "both": reading + computing,
        }  # fmt: skip

    return work


def trained(cube: Path) -> Work:
    """Train for a few steps on patches that are read all the time, as many as there are."""
    from geoae_torch import feed

    _keep_freed_memory()
    feed.RESIDENT_BYTES = 0
    shutil.rmtree(cube.with_name(f"{cube.name}.models") / "bench-fit", ignore_errors=True)

    def work() -> dict[str, float]:
        _fit(cube, "bench-fit")
        return {}

    return work


def _missing() -> str | None:
    return None if find_spec("torch") else "torch is not installed"


def _patches(setting: Setting) -> tuple[int, str]:
    return setting.scenes * (setting.size // min(128, setting.size)) ** 2, "patches"


FIGURES = (
    Figure(
        "encode",
        "encode by the thesis' VAE, 8 bands to 1024",
        "floor: the longer of reading and computing",
        {"geoae": lambda setting: encoded(setting, setting.cube), "other": floor},
        "time",
        1.15,
        amount=_patches,
        missing=_missing,
        prepare=make_models,
    ),
    Figure(
        "encode-memory",
        "encode, all scenes",
        "a quarter of them (memory must be flat)",
        {
            "geoae": lambda setting: encoded(setting, setting.cube),
            "other": lambda setting: encoded(setting, _quarter_cube(setting)),
        },
        "memory",
        1.1,
        missing=_missing,
        prepare=make_models,
        most=_MOST,
        once=True,
    ),
    Figure(
        "fit-memory",
        "train the thesis' VAE from the cube, all scenes",
        "a quarter of them (memory must be flat)",
        {
            "geoae": lambda setting: trained(setting.cube),
            "other": lambda setting: trained(_quarter_cube(setting)),
        },
        "memory",
        1.1,
        missing=_missing,
        prepare=make_models,
        most=_MOST,
        once=True,
    ),
)
