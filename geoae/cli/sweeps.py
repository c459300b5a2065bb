"""Commands that train over and over: sweep networks, latent and patch-size."""

from typing import Annotated, Any

import typer

from geoae.cli.encoders import plugin_options
from geoae.cli.memory import keep_freed_memory
from geoae.cli.options import CubeOption, Json, Overwrite, Quiet, emit, find_cube, note
from geoae.cli.progress import progress
from geoae.errors import UsageError

__all__ = ["register"]

_EXTRA = {"allow_extra_args": True, "ignore_unknown_options": True}
_OPTIONS_HELP = "Further options are the encoder's own; `geoae plugins NAME` lists them."

Seeds = Annotated[str, typer.Option(help="How many seeds, 3; or which, 0,1,2.")]
Patches = Annotated[int | None, typer.Option(min=2, help="Training sections; as in the thesis by default.")]
Validation = Annotated[int | None, typer.Option(min=2, help="Validation sections.")]
Size = Annotated[int | None, typer.Option(min=1, help="Side of a section in pixels; the patch by default.")]
Input = Annotated[str | None, typer.Option("--input", help="Modalities or bands; the picture by default.")]
Split = Annotated[str, typer.Option(help="Split whose training and validation patches are used.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        help="Train over and over: networks, latent sizes, patch sizes. What is complete is not made again.",
    )
    extra: dict[str, Any] = {"context_settings": _EXTRA, "epilog": _OPTIONS_HELP}
    group.command(name="networks", **extra)(networks)
    group.command(name="latent", **extra)(latent)
    group.command(name="patch-size", **extra)(patch_size)
    app.add_typer(group, name="sweep")


def _numbers(text: str, option: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise UsageError(f"{option} is whole numbers with commas between them, not {text!r}") from None


def _seeds(text: str) -> list[int]:
    """Read how many seeds, or which.

    Examples
    --------
    >>> _seeds("3"), _seeds("7,")
    ([0, 1, 2], [7])
    """
    numbers = _numbers(text, "--seeds")
    if min(numbers, default=0) < ("," not in text):
        raise UsageError(f"--seeds is how many, or which ones, not {text!r}")
    return numbers if "," in text else list(range(numbers[0]))


def networks(
    context: typer.Context,
    cube: CubeOption = None,
    plugin: Annotated[str, typer.Option(help="Encoder whose protocols are meant.")] = "vae",
    protocol: Annotated[
        str, typer.Option(help="Which networks, and how: thesis, thesis-plain, calibrated, others.")
    ] = "thesis",
    networks: Annotated[
        str | None, typer.Option(help="Some of them, with commas: thesis-a1,thesis-a8.")
    ] = None,
    seeds: Seeds = "3",
    epochs: Annotated[int | None, typer.Option(min=1, help="Instead of the protocol's.")] = None,
    patches: Patches = None,
    validation: Validation = None,
    size: Size = None,
    input: Input = None,
    split: Split = "default",
    quick: Annotated[bool, typer.Option("--quick", help="A small size, for tests.")] = False,
    name: Annotated[str | None, typer.Option(help="Name; networks-PROTOCOL by default.")] = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train all networks of a protocol, by default the 18 of the thesis, and print their table beside PCA."""
    from geoae.sweeps import Data, sweep_networks  # put off
    from geoae.sweeps.protocols import find_protocol  # put off

    options: dict[str, Any] = dict(plugin_options(context.args))
    if epochs is not None:
        options["epochs"] = epochs
    keep_freed_memory()
    plan = find_protocol(plugin, protocol)
    data = Data(input, split, patches or plan.patches, validation or plan.validation, device)
    with progress(quiet or json) as report:
        result = sweep_networks(
            find_cube(cube),
            plugin=plugin,
            protocol=protocol,
            networks=None if networks is None else [n.strip() for n in networks.split(",")],
            seeds=_seeds(seeds),
            data=data,
            size=size,
            options=options,
            quick=quick,
            name=name,
            overwrite=overwrite,
            progress=report,
        )
    _print(result, as_json=json, quiet=quiet)


def latent(
    context: typer.Context,
    cube: CubeOption = None,
    plugin: Annotated[str, typer.Option(help="Encoder to train.")] = "vae",
    latent_dims: Annotated[str, typer.Option(help="Latent sizes.")] = "8,16,32,50,64,128,256,512,1024",
    seeds: Seeds = "3",
    patches: Patches = None,
    validation: Validation = None,
    size: Size = None,
    input: Input = None,
    split: Split = "default",
    name: Annotated[str, typer.Option(help="Name of the sweep.")] = "latent",
    device: Device = "auto",
    overwrite: Overwrite = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train one network at several latent sizes; print the table, draw the curve and find its knee."""
    from geoae.sweeps import Data, sweep_latent  # put off

    keep_freed_memory()
    with progress(quiet or json) as report:
        result = sweep_latent(
            find_cube(cube),
            plugin=plugin,
            options=plugin_options(context.args),
            latent_dims=_numbers(latent_dims, "--latent-dims"),
            seeds=_seeds(seeds),
            data=Data(input, split, patches or Data.patches, validation or Data.validation, device),
            size=size,
            name=name,
            overwrite=overwrite,
            progress=report,
        )
    _print(result, as_json=json, quiet=quiet)


def patch_size(
    context: typer.Context,
    cube: CubeOption = None,
    plugin: Annotated[str, typer.Option(help="Encoder to train.")] = "vae",
    sizes: Annotated[
        str | None, typer.Option(help="Sides in pixels; the patch and its halves down to 32 by default.")
    ] = None,
    resize: Annotated[
        int | None, typer.Option(min=1, help="Also make larger sections this small before training.")
    ] = None,
    seeds: Seeds = "3",
    patches: Patches = None,
    validation: Validation = None,
    input: Input = None,
    split: Split = "default",
    name: Annotated[str, typer.Option(help="Name of the sweep.")] = "patch-size",
    device: Device = "auto",
    overwrite: Overwrite = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train one network on sections of several sizes; print their purity and errors, draw the curves."""
    from geoae.sweeps import Data, sweep_patch_size  # put off

    keep_freed_memory()
    with progress(quiet or json) as report:
        result = sweep_patch_size(
            find_cube(cube),
            plugin=plugin,
            options=plugin_options(context.args),
            sizes=None if sizes is None else _numbers(sizes, "--sizes"),
            resize=resize,
            seeds=_seeds(seeds),
            data=Data(input, split, patches or Data.patches, validation or Data.validation, device),
            name=name,
            overwrite=overwrite,
            progress=report,
        )
    _print(result, as_json=json, quiet=quiet)


def _print(result: Any, *, as_json: bool, quiet: bool) -> None:
    for text in result.notes:
        note(f"note: {text}", quiet=quiet)
    rows = [{k: v for k, v in row.items() if not k.startswith("patch_m")} for row in result.rows]
    document = {"folder": result.folder, "made": result.made, "rows": rows, "notes": result.notes}
    text = f"{result.text}\n\n{result.folder}: {result.made} trainings made"
    emit(document, as_json=as_json, text=text)
