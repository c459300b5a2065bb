"""Interruption: Ctrl-C and a polite end wait until a step is done."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

__all__ = ["Interruptible"]


class Interruptible:
    """Put Ctrl-C and SIGTERM off while the context lasts, so that no step is cut in two.

    A second Ctrl-C is not put off. Outside the main thread, where Python allows no handlers, nothing is.
    """

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                before = signal.getsignal(number)
                # None: set by something else than Python. SIG_IGN: somebody wants no interruption.
                if before not in (None, signal.SIG_IGN):
                    self._before[number] = before
                    signal.signal(number, self._ask)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)
        self._before = {}

    def _ask(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True

    def obey(self) -> None:
        """Raise the interruption that was put off, if there was one.

        Raises
        ------
        KeyboardInterrupt
            As asked.
        """
        if self.asked:
            raise KeyboardInterrupt
