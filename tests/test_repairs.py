"""Repairs: whatever is damaged becomes, byte for byte, what was written."""

import json
import random
import shutil
from pathlib import Path

import pytest

import geoae
from geoae.cube import Cube
from geoae.errors import UsageError
from geoae.repairs import repair
from geoae.verification import verify


@pytest.fixture(scope="module")
def layered(us3d_cube: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cube with a layer of every kind; never change it."""
    folder = tmp_path_factory.mktemp("layered")
    for path in us3d_cube.parent.iterdir():
        shutil.copytree(path, folder / path.name)
    cube = folder / us3d_cube.name
    geoae.split(cube)
    geoae.summarize(cube)
    geoae.encode(cube, plugin="pca", options={"latent_dim": 4})
    geoae.cluster(cube, latents="pca", k=3)
    geoae.project(cube, latents="pca")
    return cube


@pytest.fixture
def cube(layered: Path, tmp_path: Path) -> Path:
    for path in layered.parent.iterdir():
        shutil.copytree(path, tmp_path / path.name)
    return tmp_path / layered.name


def _bytes(cube: Path) -> dict[str, bytes]:
    return {p.relative_to(cube).as_posix(): p.read_bytes() for p in sorted(cube.rglob("*")) if p.is_file()}


def _damage(path: Path, how: str, rng: random.Random) -> None:
    content = bytearray(path.read_bytes())
    if how == "delete":
        path.unlink()
    elif how == "truncate":
        path.write_bytes(content[: len(content) // 2])
    else:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        path.write_bytes(content)


@pytest.mark.parametrize(
    "name",
    [
        "msi/c/1/0/0/0",
        "agl/zarr.json",
        "tile/zarr.json",
        "scene_transform/c/0/0",
        "valid_fraction/c/0/0",
        "splits/zarr.json",
        "splits/default/split/c/0",
        "latents/pca/z/c/0/0",
        "latents/pca/zarr.json",
        "summaries/dfc2019/purity/c/0",
        "clusters/pca/center/zarr.json",
        "projections/pca_pca/xy/c/0/0",
    ],
)
@pytest.mark.parametrize("how", ["flip", "delete", "truncate"])
def test_one_damaged_file(name: str, how: str, cube: Path, us3d_folder: Path) -> None:
    written = _bytes(cube)
    assert name in written
    _damage(cube / name, how, random.Random(f"{name}{how}"))
    report = repair(cube, us3d_folder)
    assert not report.before.ok
    assert report.after.ok
    assert report.repaired
    assert not report.impossible
    assert _bytes(cube) == written


def test_much_damage_at_once(cube: Path, us3d_folder: Path) -> None:
    written = _bytes(cube)
    rng = random.Random(0)
    for name in rng.sample([n for n in sorted(written) if n != "zarr.json"], 12):
        _damage(cube / name, rng.choice(["flip", "delete", "truncate"]), rng)
    assert repair(cube, us3d_folder).after.ok
    assert _bytes(cube) == written


@pytest.mark.parametrize("name", ["reconstruction/c/0/0/0/0", "z/c/0/0", "band_error/c/0/0"])
def test_reconstructions_are_made_again_with_their_layer(cube: Path, name: str) -> None:
    geoae.encode(cube, model="pca", name="seen", reconstructions=True)
    written = _bytes(cube)
    _damage(cube / "latents/seen" / name, "truncate", random.Random(1))
    report = repair(cube)
    assert report.after.ok
    assert report.repaired == ("latents/seen",)
    assert _bytes(cube) == written


@pytest.mark.parametrize("missing", ["a layer", "a name"])
def test_a_stale_consolidated_block_is_found_and_mended(cube: Path, missing: str) -> None:
    """It lacks a layer that is there, or names one that was removed by hand, which is made again."""
    before = (cube / "zarr.json").read_bytes()
    geoae.cluster(cube, latents="pca", k=4, name="four")
    written = _bytes(cube)
    if missing == "a name":
        (cube / "zarr.json").write_bytes(before)
    else:
        shutil.rmtree(cube / "clusters/four")
    (finding,) = verify(cube).findings
    assert finding.what == "the consolidated metadata of the root differs from its arrays"
    assert "geoae repair" in finding.hint
    assert repair(cube).after.ok
    assert _bytes(cube) == written


def test_a_changed_journal_is_not_believed(cube: Path, us3d_folder: Path) -> None:
    """Its plan and an entry; pixels are read again."""
    written = _bytes(cube)
    work = cube.with_name(f"{cube.name}.work") / "ingest"
    for file in (work / "plan.json", work / "journal/000001.json"):
        _damage(file, "truncate", random.Random(2))
    _damage(cube / "rgb/c/1/0/0/0", "flip", random.Random(3))
    assert repair(cube, us3d_folder).after.ok
    assert _bytes(cube) == written
    assert not verify(cube).findings


def test_layers_need_no_source(cube: Path) -> None:
    written = _bytes(cube)
    _damage(cube / "clusters/pca/cluster/c/0", "delete", random.Random(0))
    assert repair(cube).repaired == ("clusters/pca",)
    assert _bytes(cube) == written


def test_a_sound_cube_is_left_alone(cube: Path) -> None:
    written = _bytes(cube)
    report = repair(cube)
    assert report.after.ok
    assert report.repaired == ()
    assert _bytes(cube) == written


def test_pixels_need_the_source(cube: Path) -> None:
    _damage(cube / "rgb/c/0/0/0/0", "truncate", random.Random(0))
    with pytest.raises(UsageError, match="pixels are damaged") as caught:
        repair(cube)
    assert caught.value.exit_code == 2
    assert "--source" in str(caught.value)


def test_a_changed_source_is_refused(cube: Path, us3d_folder: Path, tmp_path: Path) -> None:
    source = tmp_path / "us3d"
    shutil.copytree(us3d_folder, source)
    next(source.rglob("*_RGB.tif")).unlink()
    _damage(cube / "rgb/c/0/0/0/0", "truncate", random.Random(0))
    with pytest.raises(UsageError, match="no longer gives this cube"):
        repair(cube, source)


def test_without_the_journal_everything_is_read_again(cube: Path, us3d_folder: Path) -> None:
    written = _bytes(cube)
    shutil.rmtree(cube.with_name(f"{cube.name}.work"))
    _damage(cube / "label/c/0/0/0", "flip", random.Random(3))
    assert repair(cube, us3d_folder).after.ok
    assert _bytes(cube) == written


def test_a_layer_whose_model_is_gone_is_named(cube: Path) -> None:
    shutil.rmtree(cube.with_name(f"{cube.name}.models"))
    _damage(cube / "latents/pca/z/c/0/0", "delete", random.Random(0))
    report = repair(cube)
    assert not report.after.ok
    assert "latents/pca" in report.impossible[0]
    assert "model" in report.impossible[0]


def test_the_command(cube: Path, us3d_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from geoae.cli import main

    _damage(cube / "agl/c/0/0/0", "delete", random.Random(0))
    with pytest.raises(SystemExit) as code:
        main(["repair", str(cube), "--source", str(us3d_folder), "--json"])
    assert code.value.code == 0
    said = json.loads(capsys.readouterr().out)
    assert said["ok"]
    assert said["repaired"] == ["pixels"]
    assert said["before"]
    assert verify(Cube.open(cube)).ok
