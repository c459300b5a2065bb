"""What kind of file this is, by its first bytes."""

from pathlib import Path

from geoae.errors import SceneError

__all__ = ["identify"]

_DRIVERS = (
    (b"II*\0", "GTiff"),
    (b"MM\0*", "GTiff"),
    (b"II+\0", "GTiff"),  # BigTIFF
    (b"MM\0+", "GTiff"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JP2OpenJPEG"),
    (b"\xff\x4f\xff\x51", "JP2OpenJPEG"),  # a codestream without a container
    (b"\x89PNG\r\n\x1a\n", "PNG"),
)
"""First bytes of the files that are read, and GDAL's driver for them."""

_CONVERT = "convert it with: gdal_translate -of GTiff"
_AGAIN = "copy or download it again"

_STRANGERS = (
    (b"version https://git-lfs", "a git-LFS pointer, not the raster itself", "fetch it with: git lfs pull"),
    (b"<vrtdataset", "a VRT, which opens other files", _CONVERT),
    (b"<!doctype html", "a web page, not a raster", _AGAIN),
    (b"<html", "a web page, not a raster", _AGAIN),
    (b"pk\x03\x04", "a zip archive", "unpack it"),
    (b"\x1f\x8b", "a gzip archive", "unpack it"),
    (b"\x89hdf", "an HDF5 file", _CONVERT),
    (b"\xff\xd8\xff", "a JPEG", _CONVERT),
)
"""First bytes, in lower case, of what lies under raster names in real folders; what it is; what to do."""


def identify(path: Path) -> tuple[str, int]:
    """Return the driver for a file, and its size in bytes.

    Raises
    ------
    SceneError
        If the file cannot be read, or is nothing that is read here; says what it is instead.
    """
    try:
        # Asked first: opening a named pipe would wait for somebody to write into it.
        if not path.is_file():
            raise SceneError(f"{path.name} is no file")
        file_bytes = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(512)
    except OSError as error:
        raise SceneError(f"{path.name} cannot be read: {error.strerror}") from None
    if not start:
        raise SceneError(f"{path.name} is empty (0 bytes)", hint=_AGAIN)
    for magic, driver in _DRIVERS:
        if start.startswith(magic):
            return driver, file_bytes
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip(b" \t\r\n").lower()
    if text.startswith(b"<?xml") and b"<vrtdataset" in text:
        text = text[text.index(b"<vrtdataset") :]
    for magic, what, hint in _STRANGERS:
        if text.startswith(magic):
            raise SceneError(f"{path.name} is {what}", hint=hint)
    if not start.strip(b"\0"):
        raise SceneError(f"{path.name} begins with zero bytes only: an unfinished copy", hint=_AGAIN)
    what = "a text file" if _is_text(start) else "a file of another format"
    raise SceneError(f"{path.name} is {what}, not a GeoTIFF, JPEG 2000 or PNG", hint=_CONVERT)


def _is_text(start: bytes) -> bool:
    """Say whether bytes are UTF-8 text; a character cut at the end is no sign against it.

    Examples
    --------
    >>> _is_text(b"easting northing"), _is_text("Häuser".encode()[:2]), _is_text(bytes([0, 1, 2]))
    (True, True, False)
    """
    try:
        text = start.decode()
    except UnicodeDecodeError as error:
        if error.start < len(start) - 3:
            return False
        text = start[: error.start].decode()
    return all(character.isprintable() or character in "\t\r\n" for character in text)
