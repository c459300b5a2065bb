"""Doctor: what is installed, what is missing, how to get it."""

import os
import platform
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata, util

from geoae.errors import GeoaeError
from geoae.registry import EncoderInfo, describe, list_encoders, load_encoder

__all__ = ["Check", "examine"]

# module, what it is for, how to get it
_OPTIONAL = (
    ("torch", "autoencoders", "pip install 'geoae[torch]'"),
    ("distributed", "ingest --scheduler", "pip install 'geoae[distributed]'"),
    ("s3fs", "cubes on S3", "pip install 'geoae[s3]'"),
)

_ROOM = 1e9
"""Bytes on the disk below which little can be made."""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Parameters
    ----------
    name, ok
        What, and whether it is there and works.
    found
        Version, place or count, or what is wrong.
    hint
        What mends it; empty if nothing is wrong.
    required
        Whether geoae does not work without it.
    """

    name: str
    ok: bool
    found: str
    hint: str = ""
    required: bool = False


def examine() -> list[Check]:
    """Look at packages, encoders, drivers and the machine.

    Encoders are imported: one that cannot be says why, and is in nobody's way.
    """
    checks = [
        Check("geoae", True, metadata.version("geoae"), required=True),
        Check("Python", True, platform.python_version(), required=True),
        *map(_package, _requirements()),
        _gdal(),
    ]
    for module, purpose, hint in _OPTIONAL:
        there = util.find_spec(module) is not None
        found = metadata.version(module) if there else f"not installed, for {purpose}"
        checks.append(Check(module, there, found, "" if there else hint))
    checks += map(_encoder, list_encoders())
    free = shutil.disk_usage(".").free
    checks.append(Check("processors", True, str(len(os.sched_getaffinity(0)))))
    room = "" if free > _ROOM else "make room, or work in another folder"
    checks.append(Check("disk", not room, f"{free / 1e9:.1f} GB free here", room))
    return checks


def _requirements() -> Iterator[str]:
    """Name the packages that geoae cannot do without."""
    for requirement in metadata.requires("geoae") or ():
        package, _, marker = requirement.partition(";")
        match = re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*", package)
        if match and "extra" not in marker:
            yield match.group()


def _package(name: str) -> Check:
    try:
        return Check(name, True, metadata.version(name), required=True)
    except metadata.PackageNotFoundError:
        return Check(name, False, "not installed", f"pip install {name}", required=True)


def _encoder(info: EncoderInfo) -> Check:
    who = f"encoder of {info.distribution} {info.version}"
    try:
        options = len(describe(load_encoder(info.name)))
    except GeoaeError as error:
        return Check(info.name, False, error.message, error.hint or "")
    return Check(info.name, True, f"{who}; {options} options, `geoae plugins {info.name}` lists them")


def _gdal() -> Check:
    try:
        # put off: an installation whose libraries do not load is what this is for
        import rasterio
        from rasterio.drivers import raster_driver_extensions

        there = "GTiff" in raster_driver_extensions().values()
    except (ImportError, OSError) as error:
        return Check("GDAL", False, f"rasterio cannot be imported: {error}", "reinstall rasterio", True)
    return Check("GDAL", there, rasterio.__gdal_version__, "" if there else "reinstall rasterio", True)
