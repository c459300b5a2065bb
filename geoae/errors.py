"""Errors of geoae, one tree.

::

    GeoaeError                      1   anything geoae says about the user's world
    ├── UsageError                  2   options that contradict each other or the store
    │   └── StoreExistsError        2   the target exists and is something else
    ├── InputError                  3   files that cannot be used
    │   ├── CatalogError            3   a catalog that is wrong or does not fit
    │   ├── SceneError              3   one scene: a file, its header or its pixels
    │   └── NotACubeError           3   a path that holds no geoae cube, or a newer one
    ├── IntegrityError              5   a store whose bytes are not what was written
    │   └── IncompleteError         5   a cube or layer that was never committed
    ├── LockedError                 1   another run holds the store
    └── PluginError                 1   an encoder that breaks its contract

The number is the process's exit code. Mistakes of a caller of the Python interface (a negative
patch size, an array of the wrong shape) are ``ValueError`` and ``TypeError``.
"""

__all__ = [
    "CatalogError",
    "GeoaeError",
    "IncompleteError",
    "InputError",
    "IntegrityError",
    "LockedError",
    "NotACubeError",
    "PluginError",
    "SceneError",
    "StoreExistsError",
    "UsageError",
]


class GeoaeError(Exception):
    """Base of all errors that geoae raises about files, catalogs, cubes and plugins.

    Parameters
    ----------
    message
        One line: what is wrong, and where.
    hint
        What mends it, often a command.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        # File names may hold newlines; an error stays one line whatever is in it.
        self.message = " ".join(message.split())
        self.hint = None if hint is None else " ".join(hint.split())
        super().__init__(self.message)

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions with keyword arguments do not pickle by themselves; workers send theirs back.
        return _rebuild, (type(self), self.message, self.hint)


def _rebuild(kind: type[GeoaeError], message: str, hint: str | None) -> GeoaeError:
    return kind(message, hint=hint)


class UsageError(GeoaeError):
    """Options contradict each other, or what is there."""

    exit_code = 2


class StoreExistsError(UsageError):
    """The target exists and is not what this command would make."""


class InputError(GeoaeError):
    """A file, folder or catalog cannot be used."""

    exit_code = 3


class CatalogError(InputError):
    """A catalog is wrong, or does not describe the folder."""


class SceneError(InputError):
    """A scene cannot be used: a file, its header, or its pixels."""


class NotACubeError(InputError):
    """The path holds no cube that this version of geoae can read."""


class IntegrityError(GeoaeError):
    """Stored bytes are missing or differ from what was written."""

    exit_code = 5


class IncompleteError(IntegrityError):
    """A cube or a layer was begun and never committed."""


class LockedError(GeoaeError):
    """Another run holds the lock of this store or layer."""


class PluginError(GeoaeError):
    """An encoder plugin cannot be loaded or breaks its contract."""
