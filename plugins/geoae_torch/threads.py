"""Threads: arithmetic of torch by the thread that asks for it alone."""

from types import TracebackType

import torch

__all__ = ["OneThread"]


class OneThread:
    """A context in which the calling thread computes alone; threads may be in one at a time.

    torch keeps a number of threads for each thread, and one for those that it has not seen yet. On leaving,
    both become what they were where the context was made.
    """

    def __init__(self) -> None:
        self._before = torch.get_num_threads()

    def __enter__(self) -> None:
        torch.set_num_threads(1)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        torch.set_num_threads(self._before)
