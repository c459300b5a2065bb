"""Progress: each stage has its name."""

import ast
from pathlib import Path

import pytest
from command_line import runner

import geoae
from geoae.cli.progress import _TITLES, progress


def stages():
    """Names of stages that geoae reports, from its source: ``progress("headers", ...)``."""
    for path in Path(geoae.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
                name = getattr(node.func, "id", None) or getattr(node.func, "attr", None)
                if name in {"progress", "report"} and isinstance(node.args[0].value, str):
                    yield node.args[0].value


def test_every_stage_of_geoae_has_a_title():
    assert set(stages()) == set(_TITLES)


@pytest.mark.parametrize(
    ("stage", "line"),
    [("pixels", "Reading pixels: 1 of 2"), ("pass 2", "Fitting, pass 2: 1 of 2, share 0.5")],
)
def test_a_line_names_what_is_done(capsys, stage, line):
    with progress(quiet=False) as report:
        report(stage, 1, 2, {"share": 0.5} if "share" in line else {})
    assert capsys.readouterr().err == f"{line}\n"


def test_quiet_is_silent(capsys):
    with progress(quiet=True) as report:
        report("pixels", 1, 2, {})
    assert capsys.readouterr().err == ""


def test_a_check_of_a_catalog_fits_nothing(capsys, us3d_folder):
    ended = runner(capsys)("catalogs", "check", "us3d", us3d_folder)
    assert ended.code == 0
    assert "Reading pixels: 3 of 9\n" in ended.err
    assert "Fitting" not in ended.err
