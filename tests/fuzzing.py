"""Files that are wrong at random, and processes that read them: nothing but our own errors may come of it.

``python tests/fuzzing.py --rounds 20000 --seed 1`` is the long form; the tests run a short one. A case is
named by its seed and number: the same two make the same bytes again.
"""

import argparse
import json
import os
import random
import resource
import signal
import struct
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import rasterio
import tifffile
import yaml
from affine import Affine
from rasterio.errors import NotGeoreferencedWarning

from geoae.align import SceneReader
from geoae.catalog import Catalog, parse_catalog
from geoae.errors import GeoaeError
from geoae.grid import Window
from geoae.raster import RasterReader, read_header
from geoae.scene import find_scenes, read_scene

MEMORY = 2 << 30
"""Bytes that a reading process may take beyond its imports: blocks of 512 MiB are allowed."""

BATCH = 400
"""Cases for one process."""

CATALOGS = (
    Path(__file__).resolve().parents[1] / "catalogs",
    Path(__file__).resolve().parent / "catalogs",
)

NUMBERS = (
    0,
    1,
    2,
    3,
    4,
    7,
    8,
    255,
    256,
    1 << 15,
    (1 << 16) - 1,
    1 << 16,
    (1 << 31) - 1,
    1 << 31,
    (1 << 32) - 1,
)

_TAGS = (254, 256, 257, 258, 259, 262, 266, 270, 273, 277, 278, 279, 284, 317, 320, 322, 323, 324, 325, 338,
         339, 347, 530, 33550, 33922, 34264, 34735, 34736, 34737, 42112, 42113, 50838, 50839)  # fmt: skip

_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8}


@dataclass(frozen=True)
class Fault:
    """A case that ended otherwise than it may: what happened, and how to make it again."""

    what: str
    part: str
    seed: int
    case: int


# --- files that are right -------------------------------------------------------------------------


def write_good_files(folder: Path) -> list[Path]:
    """Write small files of many structures: strips and tiles, compressions, types, formats."""
    rng = np.random.default_rng(0)
    picture = (np.indices((48, 40)).sum(0) % 50 * 4 + rng.integers(0, 9, (3, 48, 40))).astype(np.uint8)
    place = {"crs": "EPSG:32617", "transform": Affine(0.5, 0, 434_000, 0, -0.5, 3_354_000)}
    profiles = {
        "strips": (picture, {}),
        "placed": (picture, {**place, "compress": "deflate", "predictor": 2}),
        "tiles": (picture, {**place, "tiled": True, "blockxsize": 16, "blockysize": 16, "compress": "lzw"}),
        "bands": (picture.astype(np.uint16), {"interleave": "band", "compress": "zstd", "nodata": 0}),
        "jpeg": (picture, {"compress": "jpeg", "tiled": True, "blockxsize": 16, "blockysize": 16}),
        "heights": (
            picture[:1] / np.float32(7),
            {**place, "compress": "deflate", "predictor": 3, "nodata": -9999},
        ),
        "wide": (picture[:1].astype(np.int16), {"BIGTIFF": "YES", "compress": "packbits"}),
        "codes": (picture[:1] % 7, {**place, "compress": "lerc"}),
        "codes4": (picture[:1] % 7, {"nbits": 4, "compress": "deflate"}),
    }
    paths = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        for name, (image, profile) in profiles.items():
            path = folder / f"{name}.tif"
            count, height, width = image.shape
            size = {"count": count, "height": height, "width": width, "dtype": image.dtype}
            with rasterio.open(path, "w", driver="GTiff", **size, **profile) as file:
                file.write(image)
            paths.append(path)
        for suffix, driver in ((".png", "PNG"), (".jp2", "JP2OpenJPEG")):
            with rasterio.open(paths[0]) as source, rasterio.open(
                folder / f"other{suffix}", "w", driver=driver, count=3, height=48, width=40, dtype="uint8"
            ) as file:  # fmt: skip
                file.write(source.read())
            paths.append(folder / f"other{suffix}")
    tifffile.imwrite(folder / "rows.tif", np.moveaxis(picture[[0, 1, 2, 0]], 0, -1).astype(np.uint16))
    stack = picture[[0, 1, 2, 0, 1]].astype(np.uint16)
    tifffile.imwrite(folder / "stack.tif", stack, photometric="minisblack", compression="zlib")
    tifffile.imwrite(folder / "big-end.tif", picture[0], byteorder=">", rowsperstrip=5)
    return [*paths, folder / "rows.tif", folder / "stack.tif", folder / "big-end.tif"]


# --- making them wrong ----------------------------------------------------------------------------


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Change a file at random: bytes, blocks, its length, entries of its tables of tags."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        rng.choice((_bytes, _bytes, _number, _number, _cut, _repeat, _blank, _tag, _tag, _tag, _tag, _tag))(
            changed, rng
        )
    return bytes(changed)


def _bytes(data: bytearray, rng: random.Random) -> None:
    # Tables of tags stand at the beginning or the end, where a change says more than among pixels.
    for _ in range(rng.choice((1, 1, 4, 32))):
        if data:
            reach = rng.choice((16, 256, len(data)))
            place = rng.randrange(min(reach, len(data)))
            data[place if rng.random() < 0.7 else len(data) - 1 - place] = rng.randrange(256)


def _number(data: bytearray, rng: random.Random) -> None:
    width = rng.choice("HIQ")
    packed = struct.pack(
        rng.choice("<>") + width, rng.choice(NUMBERS) & (1 << 8 * struct.calcsize(width)) - 1
    )
    if len(data) > len(packed):
        place = rng.randrange(min(rng.choice((64, 600, len(data))), len(data) - len(packed)))
        data[place : place + len(packed)] = packed


def _cut(data: bytearray, rng: random.Random) -> None:
    if rng.random() < 0.5:
        del data[rng.randrange(len(data) + 1) :]
    elif data:
        start = rng.randrange(len(data))
        del data[start : start + rng.choice((1, 2, 8, 100))]


def _repeat(data: bytearray, rng: random.Random) -> None:
    if data:
        start = rng.randrange(len(data))
        part = data[start : start + rng.choice((1, 4, 12, 200))] * rng.choice((1, 3, 50))
        data[start:start] = part


def _blank(data: bytearray, rng: random.Random) -> None:
    if data:
        start = rng.randrange(len(data))
        part = slice(start, start + rng.choice((4, 50, 500)))
        data[part] = bytes([rng.choice((0, 255))]) * len(data[part])


def _tag(data: bytearray, rng: random.Random) -> None:
    """Change one entry of a table of tags: its number, type, count or value; or where the next table is."""
    tables = list(_tables(data))
    if not tables:
        _bytes(data, rng)
        return
    order, big, places, following = rng.choice(tables)
    size, words = (20, "HHQQ") if big else (12, "HHII")
    what = rng.randrange(7)
    if what == 6 or not places:
        width = "Q" if big else "I"
        target = rng.choice((0, 8, following, rng.choice(NUMBERS), rng.randrange(len(data))))
        _put(data, following, struct.pack(order + width, target & (1 << 8 * struct.calcsize(width)) - 1))
        return
    place = rng.choice(places)
    tag, kind, count, value = struct.unpack(order + words, data[place : place + size])
    top = (1 << 64) - 1 if big else (1 << 32) - 1
    if what == 0:
        tag = rng.choice(_TAGS)
    elif what == 1:
        kind = rng.choice((*_TYPE_BYTES, 0, 99))
    elif what == 2:
        count = rng.choice((*NUMBERS, count + 1, max(count - 1, 0))) & top
    elif what == 3:
        value = rng.choice((*NUMBERS, value + 1, place, 8, len(data) - 1, top)) & top
    elif what == 4:
        value = (value ^ (1 << rng.randrange(32))) & top
    else:  # values that lie elsewhere
        end = value + count * _TYPE_BYTES.get(kind, 1)
        if value < end <= len(data):
            data[value:end] = bytes(rng.randrange(256) for _ in range(min(end - value, 64))).ljust(
                end - value, b"\7"
            )
        return
    _put(data, place, struct.pack(order + words, tag, kind, count, value))


def _put(data: bytearray, place: int, part: bytes) -> None:
    if place + len(part) <= len(data):
        data[place : place + len(part)] = part


def _tables(data: bytearray) -> Iterator[tuple[str, bool, list[int], int]]:
    """Find tables of tags: byte order, whether BigTIFF, places of the entries and of the next offset."""
    order = {b"II": "<", b"MM": ">"}.get(bytes(data[:2]))
    if order is None or len(data) < 16:
        return
    big = struct.unpack(order + "H", data[2:4])[0] == 43
    place = struct.unpack(order + ("Q" if big else "I"), data[8:16] if big else data[4:8])[0]
    for _ in range(4):
        head = 8 if big else 2
        if not 8 <= place <= len(data) - head - 8:
            return
        number = struct.unpack(order + ("Q" if big else "H"), data[place : place + head])[0]
        size = 20 if big else 12
        following = place + head + number * size
        if number > 200 or following + 8 > len(data):
            return
        yield order, big, list(range(place + head, following, size)), following
        place = struct.unpack(order + ("Q" if big else "I"), data[following : following + (8 if big else 4)])[
            0
        ]


def mutated_catalog(text: str, rng: random.Random) -> str:
    """Change a catalog at random, in its letters or in its structure."""
    if rng.random() < 0.5:
        data = bytearray(text.encode())
        for _ in range(rng.choice((1, 2, 5))):
            rng.choice((_bytes, _cut, _repeat, _words))(data, rng)
        return data.decode("utf-8", "replace")
    document = yaml.safe_load(text)
    for _ in range(rng.choice((1, 2, 4))):
        _replace(document, rng)
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True)


_HOSTILE = (
    *("*a", "&a ", "!!python/object:os.system ls", "!!python/name:os.system ", "<<: ", "[" * 500),
    *("{a: " * 500, "- " * 3000, "9" * 5000, "1e999", "-.inf", ".nan", "2001-99-99", "0x" + "f" * 3000),
    *("1:" * 300 + "1", "!!bool 7", "!!int x", "!!float ", "!!binary !", "!!set {a}", "? ", "\x00", "\ud7ff"),
    *("!!timestamp 0000-00-00", "%YAML 9.9\n---\n", "(a+)+$", ".*.*.*.*.*", "(?i)x", "{", "}", "{kind}"),
    *("{kind}{kind}", "../../etc/passwd", "{scene.__class__}", "{0}", "(?P<kind>x)", "a{99999999}"),
    *("#000000", "yes", "~", "é" * 300, "/", "\\"),
)


def _words(data: bytearray, rng: random.Random) -> None:
    place = rng.randrange(len(data) + 1)
    data[place:place] = rng.choice(_HOSTILE).encode("utf-8", "replace")


def _value(rng: random.Random) -> object:
    numbers = (0, -1, 1, 255, 256, 10**40, 1.5, float("nan"), float("inf"))
    others = (None, True, "", [], {}, [[]], {"a": 1}, [1, 2], [0, 1], "a" * 1000)
    return rng.choice((*numbers, *others, *_HOSTILE))


def _replace(document: object, rng: random.Random) -> None:
    """Replace, remove, add or exchange one thing somewhere in a document."""
    places: list[tuple[dict | list, object]] = []
    todo = [document]
    while todo:
        node = todo.pop()
        keys = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
        places += [(node, key) for key in keys]
        todo += [node[key] for key in keys]
    if not places:
        return
    node, key = rng.choice(places)
    what = rng.randrange(4)
    if what == 0:
        node[key] = _value(rng)
    elif what == 1:
        del node[key]
    elif what == 2 and isinstance(node, dict):
        node[rng.choice((*map(str, node), "x", *_HOSTILE[:3], "{x}", 7, None))] = _value(rng)
    else:
        other, place = rng.choice(places)
        if isinstance(other, dict | list) and (not isinstance(other, list) or place < len(other)):
            node[key] = yaml.safe_load(
                yaml.safe_dump(other.get(place) if isinstance(other, dict) else other[place])
            )


# --- reading them ---------------------------------------------------------------------------------


def read_raster(path: Path) -> None:
    """Read a file's header and some of its pixels, as ingest does."""
    header = read_header(path)
    height, width = header.grid.shape
    with RasterReader(header) as reader:
        for y, x in {(0, 0), (max(height - 64, 0), max(width - 64, 0)), (height // 2, 0)}:
            window = Window(y, x, 64, 64).clipped(header.grid.shape)
            reader.read(window, range(1, min(header.count, 16) + 1))


_ANY = Catalog.model_validate(
    {
        "format": 1,
        "name": "any",
        "title": "Any",
        "names": [{"file": "{scene}_{kind}.tif", "scene": "{scene}"}],
        "modalities": {
            "rgb": {"role": "image", "kinds": ["RGB"]},
            "dsm": {"role": "height", "kinds": ["DSM"], "quantity": "surface"},
            "label": {"role": "label", "kinds": ["CLS"]},
        },
    }
)


def read_scene_of(path: Path, good: Path, rng: random.Random) -> None:
    """Put a broken file into a scene beside a good one and read both on one grid."""
    folder = path.parent / "scene"
    folder.mkdir(exist_ok=True)
    kinds = rng.sample(("RGB", "DSM", "CLS"), 2)
    for old in folder.iterdir():
        old.unlink()
    (folder / f"s_{kinds[0]}.tif").write_bytes(path.read_bytes())
    (folder / f"s_{kinds[1]}.tif").write_bytes(good.read_bytes())
    for scene in find_scenes(folder, _ANY).scenes:
        header = read_scene(scene, _ANY)
        if header.ok and header.grid is not None:
            with SceneReader(header, _ANY) as reader:
                for name in _ANY.modalities:
                    if header.provided[name] == "missing" or (header.headers[name].count > 64):
                        continue
                    reader.read(name, Window(0, 0, min(header.grid.height, 64), min(header.grid.width, 64)))


_NAMES = (
    *("JAX_004_006_RGB.tif", "JAX_004_006_007_LEFT_RGB.tif", "a" * 255, "_" * 255, "0" * 251 + ".tif", ".."),
    *("", "JAX" + "_0" * 100 + "_RGB.tif", "RGB_...tif", "a\nb_RGB.tif", "é_RGB.TIFF", "{scene}_{kind}.tif"),
    "\udcff_RGB.tif",
)


def read_catalog(text: str, folder: Path) -> None:
    """Load a catalog, and let it read names and a folder."""
    catalog = parse_catalog(text, "fuzz")
    for name in _NAMES:
        found = catalog.parse(name)
        if found is not None and ("/" in found.key or found.key in (".", "..")):
            raise AssertionError(f"key {found.key!r} is a path")
    for scene in find_scenes(folder, catalog).scenes:
        for source in scene.sources.values():
            if not source.path.resolve().is_relative_to(folder.resolve()):
                raise AssertionError(f"{source.path} lies outside")
        read_scene(scene, catalog)


# --- many cases, in processes of their own --------------------------------------------------------


def _case(part: str, seed: int, number: int, folder: Path, good: list[Path]) -> None:
    rng = random.Random(f"{part} {seed} {number}")
    try:
        if part == "catalogs":
            texts = [path for place in CATALOGS for path in sorted(place.glob("*.yaml"))]
            read_catalog(mutated_catalog(rng.choice(texts).read_text("utf-8"), rng), good[0].parent)
            return
        source = rng.choice(good)
        path = folder / f"case{source.suffix}"
        path.write_bytes(mutated(source.read_bytes(), rng))
        read_raster(path)
        if source.suffix == ".tif":
            read_scene_of(path, rng.choice([g for g in good if g.suffix == ".tif"]), rng)
    except GeoaeError as error:
        if "\n" in str(error):
            raise AssertionError(f"an error of two lines: {error}") from error


def _serve(arguments: argparse.Namespace) -> None:
    """Work through cases in this process; say each number before it is begun."""
    folder = Path(arguments.folder)
    good = sorted((folder / "good").iterdir())
    with Path("/proc/self/statm").open() as file:
        taken = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, taken + MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter("error")
    for number in range(arguments.first, arguments.first + arguments.rounds):
        print(json.dumps({"case": number}), flush=True)
        signal.alarm(arguments.seconds)  # ends the process
        try:
            _case(arguments.part, arguments.seed, number, folder, good)
        except Exception as error:  # noqa: BLE001 (whatever comes is what is looked for)
            print(json.dumps({"case": number, "what": f"{type(error).__name__}: {error}"[:300]}), flush=True)
        signal.alarm(0)


def run(part: str, rounds: int, seed: int, *, seconds: int = 600, folder: Path | None = None) -> list[Fault]:
    """Run cases in processes that may die, and return what went wrong.

    Parameters
    ----------
    part
        ``rasters`` or ``catalogs``.
    rounds, seed
        How many cases, and which.
    seconds
        A case that takes longer is a fault.
    folder
        Where to write; a temporary folder if not given.
    """
    if folder is None:
        with tempfile.TemporaryDirectory() as made:
            return run(part, rounds, seed, seconds=seconds, folder=Path(made))
    (folder / "good").mkdir()
    write_good_files(folder / "good")
    faults: list[Fault] = []
    first = 0
    while first < rounds:
        options = {"part": part, "seed": seed, "first": first, "rounds": min(BATCH, rounds - first)}
        command = [sys.executable, __file__, "--serve", "--folder", str(folder), "--seconds", str(seconds)]
        command += [text for key, value in options.items() for text in (f"--{key}", str(value))]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
        last = first
        for line in done.stdout.splitlines():
            said = json.loads(line)
            last = said["case"]
            if "what" in said:
                faults.append(Fault(said["what"], part, seed, last))
        if done.returncode:
            ended = (
                signal.Signals(-done.returncode).name if done.returncode < 0 else done.stderr.strip()[-300:]
            )
            faults.append(Fault(f"the process ended: {ended}", part, seed, last))
        first = last + 1
    return faults


def main() -> int:
    """Run the long form, or serve it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=("rasters", "catalogs"))
    parser.add_argument("--rounds", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--folder")
    parser.add_argument("--serve", action="store_true")
    arguments = parser.parse_args()
    if arguments.serve:
        _serve(arguments)
        return 0
    faults = []
    for part in [arguments.part] if arguments.part else ["rasters", "catalogs"]:
        found = run(part, arguments.rounds, arguments.seed, seconds=arguments.seconds)
        faults += found
        print(f"{part}: {arguments.rounds} cases of seed {arguments.seed}, {len(found)} faults")
    for fault in faults:
        print(json.dumps(asdict(fault)))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
