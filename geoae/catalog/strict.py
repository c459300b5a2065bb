"""What all models of a catalog have in common: they are frozen, and know their keys."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict

__all__ = ["StrictModel", "checked", "require_unique"]

_Result = TypeVar("_Result")


class StrictModel(BaseModel):
    """A frozen model that refuses keys it does not know, and numbers that are none."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def checked(path: str, check: Callable[[str], _Result], value: str) -> _Result:
    """Run a check and put the key's path before what it finds.

    Raises
    ------
    ValueError
        What the check raised, beginning with the path.
    """
    try:
        return check(value)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def require_unique(path: str, values: Iterable[Any]) -> None:
    """Refuse a value that occurs twice.

    Raises
    ------
    ValueError
        Naming the path and the first such value.
    """
    seen: set[Any] = set()
    for value in values:
        if value in seen:
            raise ValueError(f"{path}: {value!r} is there twice")
        seen.add(value)
