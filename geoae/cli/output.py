"""Commands that draw figures."""

from pathlib import Path
from typing import Annotated, Any

import typer

from geoae.cli.options import CubeOption, Json, Overwrite, emit, find_cube
from geoae.errors import InputError, StoreExistsError, UsageError

__all__ = ["register"]

Out = Annotated[
    Path | None, typer.Option("--out", help="PNG, PDF or SVG to write; named after the layer by default.")
]
Dpi = Annotated[int, typer.Option(min=30, max=1200, help="Resolution of a PNG.")]

_FORMATS = (".png", ".pdf", ".svg")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    plot = typer.Typer(no_args_is_help=True, help="Draw figures.", pretty_exceptions_enable=False)
    plot.command(name="latents")(plot_latents)
    plot.command(name="map")(plot_map)
    plot.command(name="examples")(plot_examples)
    plot.command(name="reconstructions")(plot_reconstructions)
    app.add_typer(plot, name="plot")


def _save(figure: Any, out: Path, dpi: int, *, overwrite: bool, as_json: bool) -> None:
    """Write a figure whole or not at all."""
    import matplotlib as mpl

    if out.suffix.lower() not in _FORMATS:
        raise UsageError(f"a figure is written as {', '.join(_FORMATS)}, not {out.suffix or out.name!r}")
    if out.is_dir():
        raise UsageError(f"{out} is a folder")
    if out.exists() and not overwrite:
        raise StoreExistsError(f"{out} exists", hint="--overwrite replaces it, --out names another file")
    partial = out.with_name(f".{out.name}.partial{out.suffix}")
    # No time stamps: the same figure is the same file.
    metadata = {".png": {"Software": None}, ".pdf": {"CreationDate": None}, ".svg": {"Date": None}}
    try:
        with mpl.rc_context({"svg.hashsalt": "geoae"}):
            figure.savefig(partial, dpi=dpi, metadata=metadata[out.suffix.lower()])
        partial.replace(out)
    except OSError as error:
        raise InputError(f"cannot write {out}: {error.strerror}", hint="choose another --out") from None
    finally:
        partial.unlink(missing_ok=True)
    emit({"path": str(out)}, as_json=as_json, text=str(out))


def _backend() -> None:
    """Draw without a screen."""
    import matplotlib as mpl

    mpl.use("Agg")


def plot_latents(
    latents: Annotated[str, typer.Option(help="Name of the latents.")],
    cube: CubeOption = None,
    projection: Annotated[str | None, typer.Option(help="Projection to draw; PCA by default.")] = None,
    out: Out = None,
    dpi: Dpi = 200,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Scatter the patches by their latents, coloured by dominant class and mean height."""
    _backend()
    from geoae.plots import plot_latents as draw  # put off

    figure = draw(find_cube(cube), latents, projection=projection)
    _save(figure, out or Path(f"latents-{latents}.png"), dpi, overwrite=overwrite, as_json=json)


def plot_map(
    clusters: Annotated[str, typer.Option(help="Name of the clusters.")],
    cube: CubeOption = None,
    scene: Annotated[str | None, typer.Option(help="Scene to draw; the most varied by default.")] = None,
    out: Out = None,
    dpi: Dpi = 200,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Draw clusters where they lie in a scene, beside the picture."""
    _backend()
    from geoae.plots import plot_map as draw  # put off

    figure = draw(find_cube(cube), clusters, scene=scene)
    _save(figure, out or Path(f"map-{clusters}.png"), dpi, overwrite=overwrite, as_json=json)


def plot_examples(
    clusters: Annotated[str, typer.Option(help="Name of the clusters.")],
    cube: CubeOption = None,
    out: Out = None,
    dpi: Dpi = 200,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Draw the patches that are nearest to the centre of each cluster."""
    _backend()
    from geoae.plots import plot_cluster_examples as draw  # put off

    figure = draw(find_cube(cube), clusters)
    _save(figure, out or Path(f"examples-{clusters}.png"), dpi, overwrite=overwrite, as_json=json)


def plot_reconstructions(
    latents: Annotated[str, typer.Option(help="Names of latents, separated by commas.")],
    cube: CubeOption = None,
    count: Annotated[int, typer.Option(min=1, max=12, help="Patches to draw.")] = 6,
    out: Out = None,
    dpi: Dpi = 200,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Draw patches, what encoders make of their latent vectors, and where these err."""
    _backend()
    from geoae.plots import plot_reconstructions as draw  # put off

    names = [name.strip() for name in latents.split(",") if name.strip()]
    if not names:
        raise UsageError("--latents names no layer", hint="--latents vae,pca")
    figure = draw(find_cube(cube), names, count=count)
    target = out or Path(f"reconstructions-{'-'.join(names)}.png")
    _save(figure, target, dpi, overwrite=overwrite, as_json=json)
