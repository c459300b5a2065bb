"""Benchmarks: every figure runs on tiny data and measures what it says. No test looks at a clock."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))  # the benchmarks are not installed

from benchmarks import __main__ as command  # noqa: E402
from benchmarks import measure  # noqa: E402
from benchmarks.figures import Figure, find_figure, load_figures  # noqa: E402
from benchmarks.figures.ingestion import prepare  # noqa: E402
from benchmarks.measure import Measured, Setting  # noqa: E402
from benchmarks.scenes import write_scenes  # noqa: E402
from benchmarks.table import BEGIN, END, Result, insert, machine, markdown, row  # noqa: E402
from geoae.chunks import encode_shard  # noqa: E402
from geoae.cube import Cube  # noqa: E402
from geoae.raster import read_header  # noqa: E402

FIGURES = load_figures()


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Setting:
    folder = tmp_path_factory.mktemp("bench")
    setting = Setting(folder, scenes=4, size=256, rows=12, latents=400, polygons=300, views=8)
    write_scenes(setting.source, setting.scenes, setting.size)
    prepare(setting)
    return setting


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure in this process: starting twenty others takes longer than their work."""

    def run(name: str, side: str, setting: Setting) -> Measured:
        return measure.measure(find_figure(name).sides[side](setting))

    monkeypatch.setattr(command, "run_side", run)


@pytest.mark.slow
def test_all_figures_make_one_table(
    setting: Setting, here: None, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    sizes = ["--scenes", "4", "--size", "256", "--rows", "12", "--latents", "400", "--polygons", "300"]
    sizes += ["--views", "8"]
    where = ["--folder", str(setting.folder), "--json", str(tmp_path / "all.json")]
    document = tmp_path / "benchmarks.md"
    document.write_text(f"# Before\n\n{BEGIN}\nan older run\n{END}\n\nAfter.\n")
    command.main([*sizes, *where, "--repeats", "1", "--into", str(document)])
    printed = capsys.readouterr()
    assert document.read_text() == f"# Before\n\n{BEGIN}\n\n{printed.out}\n{END}\n\nAfter.\n"
    for figure in FIGURES.values():
        assert figure.title in printed.out
        assert f"measuring {figure.name}" in printed.err  # progress goes beside the table
    lines = [line for line in printed.out.splitlines() if line.startswith("|")]
    assert len(lines) == 2 + len(FIGURES)
    assert len({line.count("|") for line in lines}) == 1
    written = json.loads((tmp_path / "all.json").read_text())
    assert str(tmp_path.parent) not in json.dumps(written)
    found = written["figures"]
    assert list(found) == list(FIGURES)
    for values in found.values():
        assert values["ratio"] > 0
        assert len(values["geoae"]) == len(values["other"]) == 1
        assert all(side["memory"] > 1e6 for side in (*values["geoae"], *values["other"]))

    def notes(name: str) -> tuple[dict[str, float], dict[str, float]]:
        return found[name]["geoae"][0]["notes"], found[name]["other"][0]["notes"]

    # Both sides did the same job.
    assert notes("ingest")[0]["patches"] == 16
    assert [side["patches"] for side in notes("ingest-memory")] == [16, 4]
    assert [side["patches"] for side in notes("ingest-full")] == [32, 8]
    assert notes("info")[0]["imports"] == 0
    assert {side["patches"] for side in notes("batches")} == {16}
    assert {side["patches"] for side in notes("encode")} == {16}
    ours, peer = notes("pca")
    assert ours["explained_variance_ratio"] == pytest.approx(peer["explained_variance_ratio"], abs=1e-3)
    assert notes("export")[0]["features"] == notes("export")[1]["features"] == 600
    assert min(side["ari"] for side in notes("kmeans")) > 0.3


def test_scenes_differ_and_compress_as_real_ones_do(setting: Setting) -> None:
    cube = Cube.open(setting.cube)
    assert len(cube.scenes()) == 4
    assert set(cube.scenes()["scene_city"]) == {"JAX", "OMA"}
    raw = compressed = 0
    for name in ("msi", "rgb", "agl", "label"):
        values = np.asarray(cube.array(name)[...])
        raw += values.nbytes
        compressed += sum(map(len, encode_shard(values, 16, 16, 0)))
        if name != "label":
            assert len({scene.tobytes() for scene in values.reshape(4, -1)}) == 4
    assert 0.5 < compressed / raw < 0.7


def test_scenes_are_written_once(tmp_path: Path) -> None:
    write_scenes(tmp_path / "scenes", 1, 128)
    files = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "scenes").iterdir()}
    assert sorted(name.rsplit("_", 1)[1] for name in files) == ["AGL.tif", "CLS.tif", "MSI.tif", "RGB.tif"]
    write_scenes(tmp_path / "scenes", 1, 128)
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "scenes").iterdir()} == files
    header = read_header(tmp_path / "scenes" / "JAX_000_001_MSI.tif")
    assert (header.count, header.dtype, header.grid.shape) == (8, "uint16", (128, 128))


def test_a_side_runs_in_a_process_of_its_own(setting: Setting) -> None:
    found = measure.run_side("classes", "other", setting)
    assert found.notes["bytes"] == 2 * 16 * 128 * 128
    with pytest.raises(RuntimeError, match="classes, nobody"):
        measure.run_side("classes", "nobody", setting)


def test_the_peak_is_of_this_process_not_of_its_parent(setting: Setting) -> None:
    large = np.ones(400_000_000, np.uint8)
    found = measure.run_side("classes", "other", setting)
    assert found.memory < large.nbytes


def a_figure(ratio: str, goal: float | None, **more: object) -> Figure:
    return Figure("name", "title", "other", {}, ratio, goal, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("ratio", "goal", "expected", "reached"),
    [
        ("time", 2.0, 2.0, True),
        ("time", 1.9, 2.0, False),
        ("speed", 0.5, 0.5, True),
        ("speed", 0.6, 0.5, False),
        ("seconds", 4.1, 2.0, True),
        ("seconds", 4.0, 2.0, False),
        ("time", None, 2.0, None),
    ],
)
def test_ratios_and_goals(ratio: str, goal: float | None, expected: float, reached: bool | None) -> None:
    figure = a_figure(ratio, goal)
    ours, other = Measured(4.0, 1.0, 1), Measured(2.0, 1.0, 1)
    assert figure.ratio_of(ours, other) == expected
    assert figure.reached(expected, ours, other) is reached


@pytest.mark.parametrize(("ours", "reached"), [(640e6, True), (660e6, False), (560e6, False)])
def test_memory_must_be_flat_and_below_a_limit(ours: float, reached: bool) -> None:
    figure = a_figure("memory", 1.1, most=650e6)
    one, other = Measured(9.0, 9.0, ours), Measured(1.0, 1.0, 600e6 if ours > 600e6 else 500e6)
    assert figure.ratio_of(one, other) == pytest.approx(ours / other.memory)
    assert figure.reached(figure.ratio_of(one, other), one, other) is reached
    assert figure.goal_text == "<= 1.1 of memory, < 650 MB"


def test_speed_does_not_count_without_quality() -> None:
    figure = a_figure("speed", 3.0, quality="ari", slack=0.01)
    worse, peer = Measured(1.0, 1.0, 1, {"ari": 0.7}), Measured(9.0, 1.0, 1, {"ari": 0.8})
    assert figure.reached(9.0, worse, peer) is False
    assert figure.reached(9.0, Measured(1.0, 1.0, 1, {"ari": 0.795}), peer) is True


def test_the_ratio_is_the_median_of_the_repeats(setting: Setting) -> None:
    ours = tuple(Measured(s, s, 5_000_000) for s in (1.0, 9.0, 3.0))
    other = tuple(Measured(s, s, 7_000_000) for s in (1.0, 3.0, 2.0))
    result = Result(a_figure("time", 1.25), ours, other)
    assert result.ratio == 1.5
    assert row(result, setting)[-4:] == ("<= 1.25", "missed", "5 MB", "7 MB")


@pytest.mark.parametrize(("ratio", "expected"), [("time", 4.0), ("speed", 0.25)])
def test_the_ratio_of_processor_time_goes_the_same_way(ratio: str, expected: float) -> None:
    result = Result(a_figure(ratio, 1.0), (Measured(1.0, 8.0, 1),), (Measured(1.0, 2.0, 1),))
    assert result.processor == expected


def test_what_cannot_be_measured_is_named(setting: Setting) -> None:
    figure = a_figure("time", 2.0, missing=lambda: "geoae.cli is not there")
    result = command.measure_figure(figure, setting, 3)
    assert "geoae.cli is not there" in markdown([row(result, setting)])


def test_a_figure_that_fails_takes_no_other_with_it(
    setting: Setting, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(name: str, side: str, setting: Setting) -> Measured:
        raise RuntimeError(f"{name}, {side}: Traceback\nGeoaeError: the disk is full")

    monkeypatch.setattr(command, "run_side", run)
    result = command.measure_figure(find_figure("help"), setting, 2)
    assert row(result, setting)[:3] == ("geoae --help", "skipped", "GeoaeError: the disk is full")
    assert "Traceback" in capsys.readouterr().err


def test_a_run_needs_its_place_in_a_document() -> None:
    assert insert(f"a\n{BEGIN}{END}\nb", "run\n") == f"a\n{BEGIN}\n\nrun\n\n{END}\nb"
    for document in ("a", BEGIN, END, END + BEGIN):
        with pytest.raises(ValueError, match="the document has no"):
            insert(document, "run")


def test_a_run_says_what_it_was_made_on() -> None:
    text = machine()
    assert f"{measure.cores()} cores of " in text
    assert f"numpy {np.__version__}" in text


def test_the_documentation_has_a_place_for_a_run() -> None:
    document = (REPOSITORY / "docs" / "benchmarks.md").read_text()
    assert insert(document, "run") != document


def test_unknown_figures_are_refused() -> None:
    with pytest.raises(SystemExit, match="no figure 'speed'"):
        command.main(["--only", "speed"])


def test_figures_can_be_listed(capsys: pytest.CaptureFixture[str]) -> None:
    command.main(["--list"])
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(FIGURES)
