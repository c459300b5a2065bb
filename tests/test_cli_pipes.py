"""Who reads the answer of a command: nobody, somebody who leaves early, a full disk."""

import os

import pytest
from command_line import shell

COMMANDS = ["info us3d.zarr", "info us3d.zarr --json", "catalogs show us3d", "encode --help"]


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("reader", ["true", "head -c 1"])
def test_a_reader_who_leaves_early_is_no_failure(us3d_cube, command, reader):
    answer = shell(f"geoae {command} | {reader} >/dev/null; echo ${{PIPESTATUS[0]}}", us3d_cube.parent)
    assert answer.out == "0\n"
    assert answer.err == ""


@pytest.mark.parametrize("command", ["info us3d.zarr", "catalogs show us3d"])
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")  # noqa: PTH110
def test_an_answer_that_cannot_be_written_is_a_failure(us3d_cube, command):
    answer = shell(f"geoae {command} > /dev/full", us3d_cube.parent)
    assert answer.code == 1
    assert answer.error == "No space left on device"
