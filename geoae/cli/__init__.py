"""The command line: parse, call, print.

A command is one public function. Everything heavy is imported inside the command that needs it ("put
off"), so that ``geoae --help`` stays fast.
"""

import contextlib
import logging
import os
import shlex
import signal
import sys
import warnings
from types import FrameType
from typing import Annotated, Any

import typer

import geoae
from geoae.cli import analysis, attaching, catalogs, encoders, exporting, inspection, making, output, sweeps
from geoae.errors import GeoaeError

__all__ = ["app", "main"]

_EPILOG = (
    "Exit codes: 0 done, 1 failure, 2 usage, 3 bad input, 4 done with scenes skipped, 5 damaged store, "
    "130 interrupted. The cube is --cube, else $GEOAE_CUBE, else the only one in the working folder."
)

app = typer.Typer(
    name="geoae",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=_EPILOG,
)


def _version(value: bool) -> None:
    if value:
        print(f"geoae {geoae.__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Latent representations of co-registered imagery, elevation and labels.

    ingest a folder into a cube, encode its patches, summarize, cluster, plot and export them.
    """
    del version, debug  # read by main, before typer runs


for _module in (making, catalogs, inspection, encoders, attaching, sweeps, analysis, output, exporting):
    _module.register(app)


def _terminated(_number: int, _frame: FrameType | None) -> None:
    """Treat a polite end like Ctrl-C, so that locks and temporary files are cleaned up."""
    raise KeyboardInterrupt


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit the process."""
    arguments = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in arguments
    # --debug is accepted anywhere; typer knows it as an option of the root only.
    arguments = [a for a in arguments if a != "--debug"]
    signal.signal(signal.SIGTERM, _terminated)
    # Ctrl-C between zarr's making of a coroutine and its start, see the end.
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
    code: Any = 0
    try:
        code = app(arguments, standalone_mode=False, prog_name="geoae")
        if sys.stdout is not None:
            sys.stdout.flush()  # what cannot be written must not pass for written
    except SystemExit as ended:
        # typer ends with 1 when nobody reads any more. `geoae ls | head -1` is no failure.
        code = 0 if ended.code == 1 else ended.code
    except GeoaeError as error:
        if debug:
            raise
        _say(f"error: {error.message}")
        if error.hint:
            _say(f"  try: {error.hint}")
        code = error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except BrokenPipeError:
        # Nobody reads any more. Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except typer.TyperException as error:
        code = error.exit_code
        _say_usage(error)
    except MemoryError:
        if debug:
            raise
        _say("error: out of memory")
        _say("  try: fewer --workers, or a smaller batch")
        code = 1
    except OSError as error:
        if debug:
            raise
        _say(f"error: {error.strerror or error}" + (f": {error.filename}" if error.filename else ""))
        code = 1
    except Exception as error:
        if debug:
            raise
        # A fault of geoae or of a plugin. One line here too; the traceback is for its report.
        _say(f"error: {type(error).__name__}: {' '.join(str(error).split())}")
        _say("  try: the same command with --debug, and report what it prints")
        code = 1
    if code == 130:  # typer makes a number of it too
        # What zarr was reading for us is given up; asyncio would complain of that when the process ends.
        logging.getLogger("asyncio").setLevel(logging.CRITICAL + 1)
        _say("interrupted: nothing that was there is damaged; the same command goes on where it was")
        # A URL may hold a password, which has no place in a log.
        if not any("://" in argument for argument in arguments):
            _say(f"  go on with: geoae {shlex.join(arguments)}")
    sys.exit(code if isinstance(code, int) else 0)


def _say_usage(error: typer.TyperException) -> None:
    """Print a mistake in options in the form of all other errors."""
    context: Any = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "geoae"
    message = " ".join(error.format_message().split())
    if type(error).__name__ == "NoArgsIsHelpError":
        _say(error.format_message())
        return
    _say(f"error: {message}")
    _say(f"  try: {command} --help")


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # nobody listens; the exit code still tells
        print(text, file=sys.stderr)
