"""The log of a training: a line of JSON for every evaluation, and TensorBoard's if asked for."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from geoae.errors import PluginError

__all__ = ["LOG", "LOGS", "Log"]

LOG, LOGS = "log.jsonl", "logs"


class Log:
    """Writes figures as they come.

    Parameters
    ----------
    folder
        Whose subfolder ``logs`` gets them; None writes nothing.
    step
        Step that the training goes on from: later lines of an interrupted run are cut off.
    tensorboard
        Also write TensorBoard's files.

    Raises
    ------
    PluginError
        If TensorBoard is asked for and not installed.
    """

    def __init__(self, folder: Path | None, step: int, *, tensorboard: bool = False) -> None:
        if folder is not None:
            folder = folder / LOGS
            folder.mkdir(exist_ok=True)
        self._path = None if folder is None else folder / LOG
        self._board: Any = None
        if self._path is not None and self._path.exists():
            kept = [line for line in self._path.read_text("utf-8").splitlines() if _step(line) <= step]
            self._path.write_text("".join(f"{line}\n" for line in kept), "utf-8")
        if tensorboard and folder is not None:
            try:
                # put off: it is slow to import, and few ask for it
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                raise PluginError(
                    "TensorBoard is not installed", hint="pip install 'geoae[tensorboard]'"
                ) from None
            self._board = SummaryWriter(str(folder), purge_step=step + 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._board is not None:
            self._board.close()

    def write(self, row: Mapping[str, float], **clock: float) -> None:
        """Write the figures of an evaluation; `clock` holds those that differ from run to run."""
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({**row, **clock}) + "\n")
        if self._board is not None:
            for name, value in row.items():
                self._board.add_scalar(name, value, int(row["step"]))


def _step(line: str) -> float:
    """Return a line's step; infinity for a line that was cut off."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")
