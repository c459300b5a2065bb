"""Commands around encoders: plugins, networks, split, fit, encode."""

import difflib
from collections.abc import Callable
from enum import StrEnum
from importlib import import_module
from typing import Annotated, Any

import typer

from geoae.cli.memory import keep_freed_memory
from geoae.cli.options import CubeOption, DryRun, Json, Overwrite, Quiet, emit, find_cube, note, size
from geoae.cli.progress import progress
from geoae.errors import PluginError, UsageError

__all__ = ["register"]

_EXTRA = {"allow_extra_args": True, "ignore_unknown_options": True}
"""The encoder's own options are not known before its name is."""

_OPTIONS_HELP = "Further options are the encoder's own; `geoae plugins NAME` lists them."

Input = Annotated[
    str | None,
    typer.Option(
        "--input", help="Modalities or bands: rgb, msi,agl or msi.red,msi.nir1; the picture by default."
    ),
]
Target = Annotated[
    str | None,
    typer.Option(
        "--target", help="What a decoder should make of the input, named like it; the same by default."
    ),
]
MinValid = Annotated[
    float | None, typer.Option(min=0, max=1, help="Leave out patches with fewer valid pixels.")
]
Split = Annotated[str, typer.Option(help="Split to fit on.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]


class SplitBy(StrEnum):
    """What is never cut in two."""

    group = "group"
    city = "city"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(plugins)
    app.command()(networks)
    app.command()(split)
    app.command(context_settings=_EXTRA, epilog=_OPTIONS_HELP)(fit)
    app.command(context_settings=_EXTRA, epilog=_OPTIONS_HELP)(encode)


def plugin_options(arguments: list[str]) -> dict[str, str]:
    """Turn ``--latent-dim 64 --whiten --no-x --y=1`` into options by name.

    Raises
    ------
    UsageError
        If something is not an option.

    Examples
    --------
    >>> plugin_options(["--latent-dim", "64", "--whiten", "--no-bias", "--beta=-1"])
    {'latent_dim': '64', 'whiten': 'true', 'bias': 'false', 'beta': '-1'}
    """
    options: dict[str, str] = {}
    position = 0
    while position < len(arguments):
        word = arguments[position]
        position += 1
        if not word.startswith("--") or word == "--":
            hint = f"--cube {word}" if word.rstrip("/").endswith(".zarr") else "see --help"
            raise UsageError(f"unexpected argument {word!r}", hint=hint)
        name, equals, value = word[2:].partition("=")
        if not equals:
            if position < len(arguments) and not arguments[position].startswith("--"):
                value = arguments[position]
                position += 1
            else:
                # A flag: --whiten, --no-whiten.
                value = "false" if name.startswith("no-") else "true"
                name = name.removeprefix("no-")
        options[name.replace("-", "_")] = value
    return options


def _encoder_options(context: typer.Context, plugin: str | None) -> dict[str, str]:
    """Read the encoder's options; what looks like one of the command's own is a slip of the pen.

    Raises
    ------
    UsageError
        If an option is neither the encoder's nor the command's, but nearly the command's.
    """
    from geoae.registry import describe, load_encoder  # put off

    options = plugin_options(context.args)
    if options and plugin is not None:
        known = {option.field for option in describe(load_encoder(plugin))}
        own = [name for parameter in context.command.params for name in parameter.opts]
        for name in options.keys() - known:
            typed = f"--{name.replace('_', '-')}"
            close = difflib.get_close_matches(typed, own, n=1, cutoff=0.8)
            if close:
                raise UsageError(f"there is no option {typed}", hint=f"did you mean {close[0]}?")
    return options


def plugins(
    name: Annotated[str | None, typer.Argument(help="Show this encoder's options.")] = None,
    json: Json = False,
) -> None:
    """List the installed encoders, or the options of one."""
    from geoae.registry import describe, list_encoders, load_encoder  # put off

    if name is not None:
        kind = load_encoder(name)
        options = describe(kind)
        first = (kind.__doc__ or "").strip().splitlines()[:1]
        lines = [f"{name}: {''.join(first)}"]
        for option in options:
            flag = f"--{option.name.replace('_', '-')}"
            lines.append(f"  {flag:22} {option.type:8} {option.description} [default: {option.default}]")
        document = [vars(option) for option in options]
        emit({"name": name, "options": document}, as_json=json, text="\n".join(lines))
        return
    found = list_encoders()
    rows = []
    for info in found:
        state = f"  not usable: {info.problem} ({info.hint})" if info.problem else ""
        rows.append(f"{info.name:20} {info.distribution} {info.version}{state}")
    emit([vars(info) for info in found], as_json=json, text="\n".join(rows))
    note("`geoae plugins NAME` lists an encoder's options", quiet=json)


class Form(StrEnum):
    """What the code of a network is."""

    variational = "variational"
    plain = "plain"


def networks(
    name: Annotated[
        str | None, typer.Argument(help="Show this network's layers: a preset, or a YAML file.")
    ] = None,
    plugin: Annotated[str, typer.Option(help="Encoder whose networks are meant.")] = "vae",
    patch: Annotated[int | None, typer.Option(min=1, help="Pixels along a side of a patch.")] = None,
    bands: Annotated[int | None, typer.Option(min=1, help="Bands of a patch.")] = None,
    latent_dim: Annotated[int | None, typer.Option(min=1, help="Length of the latent vector.")] = None,
    form: Annotated[
        Form | None,
        typer.Option(help="With mean and log-variance, or a plain code; as described by default."),
    ] = None,
    yaml: Annotated[
        bool, typer.Option("--yaml", help="Print the description, to start one's own from.")
    ] = False,
    json: Json = False,
) -> None:
    """List the networks that encoders can use, or the layers of one: output shapes and parameters."""
    document, text = _networks_of(plugin)(
        name,
        patch=patch,
        bands=bands,
        latent_dim=latent_dim,
        variational=None if form is None else form is Form.variational,
        as_yaml=yaml,
    )
    emit(document, as_json=json, text=text)


def _networks_of(plugin: str) -> Callable[..., tuple[Any, str]]:
    """Return the function ``describe_networks`` of the package that offers an encoder.

    It is the package's, not the class's, so that networks are listed without importing what computes.
    """
    from geoae.registry import encoder_info  # put off

    info = encoder_info(plugin)
    package = info.target.partition(":")[0].partition(".")[0]
    try:
        offered = getattr(import_module(package), "describe_networks", None)
    except Exception as error:  # whatever a stranger's module raises becomes one line
        raise PluginError(f"{package} cannot be imported: {type(error).__name__}: {error}") from error
    if not callable(offered):
        raise UsageError(f"encoder {plugin} has no networks to list", hint="geoae plugins lists encoders")
    return offered  # type: ignore[no-any-return]


def split(
    cube: CubeOption = None,
    name: Annotated[str, typer.Option(help="Name of the split.")] = "default",
    by: Annotated[
        SplitBy, typer.Option(help="Cut between groups (tiles), or test on other cities.")
    ] = SplitBy.group,
    test_city: Annotated[list[str] | None, typer.Option(help="Test on this city (means --by city).")] = None,
    fractions: Annotated[str, typer.Option(help="Shares of train,validation,test.")] = "0.7,0.15,0.15",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the ranking of groups.")] = 0,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Divide the patches into train, validation and test without cutting a tile in two."""
    from geoae.splits import split as run  # put off

    try:
        shares = tuple(float(part) for part in fractions.split(","))
    except ValueError:
        raise UsageError(f"--fractions is three numbers with commas, not {fractions!r}") from None
    report = run(
        find_cube(cube),
        name=name,
        by="city" if test_city else by.value,
        test=tuple(test_city or ()),
        fractions=shares,
        seed=seed,
        overwrite=overwrite,
        dry_run=dry_run,
    )
    parts = ", ".join(f"{n} {part}" for part, n in report.patches.items())
    groups = ", ".join(f"{n} {part}" for part, n in report.groups.items())
    text = f"{report.path}: {parts} patches; groups: {groups} (by {report.method})"
    if report.method == "train-only":
        text += "; too few groups and patches to hold any out: scores will be of training patches"
    text += "; nothing was written" if dry_run else ""
    emit({**vars(report), "dry_run": dry_run}, as_json=json, text=text)


def fit(
    context: typer.Context,
    plugin: Annotated[str, typer.Option("--plugin", help="Name of the encoder.")],
    cube: CubeOption = None,
    input: Input = None,
    target: Target = None,
    split: Split = "default",
    min_valid: MinValid = None,
    name: Annotated[str | None, typer.Option(help="Name of the model; the encoder's by default.")] = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Fit an encoder on the training patches and store the model beside the cube."""
    from geoae.fitting import fit as run  # put off
    from geoae.fitting import plan_fit  # put off

    options = _encoder_options(context, plugin)
    if dry_run:
        plan = plan_fit(
            find_cube(cube),
            plugin=plugin,
            options=options,
            input=input,
            target=target,
            split=split,
            min_valid=min_valid,
            name=name,
            overwrite=overwrite,
        )
        _tell_plan(plan, overwrite, json)
        return
    keep_freed_memory()
    with progress(quiet or json) as report:
        model = run(
            find_cube(cube),
            plugin=plugin,
            options=options,
            input=input,
            target=target,
            split=split,
            min_valid=min_valid,
            name=name,
            device=device,
            overwrite=overwrite,
            progress=report,
        )
    document: dict[str, Any] = {"model": model.name, "digest": model.digest, **model.spec.report}
    metrics = _metrics_text(model.spec.report.get("metrics", {}))
    for text in model.spec.report.get("notes", ()):
        note(f"note: {text}", quiet=quiet)
    emit(document, as_json=json, text=f"model {model.name}: {model.encoder.latent_dim} components{metrics}")


def _tell_plan(plan: Any, overwrite: bool, json: bool) -> None:
    """Say what a fit would do."""
    document = {
        "model": plan.name,
        "plugin": plan.spec.plugin,
        "latent_dim": plan.latent_dim,
        "training": len(plan.train),
        "validation": len(plan.validation),
        "exists": plan.exists,
        "dry_run": True,
    }
    text = f"model {plan.name}: {plan.latent_dim} components, {len(plan.train)} patches to learn from, "
    text += f"{len(plan.validation)} held out"
    if plan.exists:
        text += "; it would be replaced" if overwrite else "; it is there already, nothing to do"
    emit(document, as_json=json, text=text + "; nothing was written")


def encode(
    context: typer.Context,
    plugin: Annotated[str | None, typer.Option("--plugin", help="Name of the encoder to fit.")] = None,
    model: Annotated[str | None, typer.Option("--model", help="A fitted model: a name or a folder.")] = None,
    cube: CubeOption = None,
    input: Input = None,
    target: Target = None,
    split: Split = "default",
    min_valid: MinValid = None,
    name: Annotated[
        str | None, typer.Option(help="Name of layer and model; the encoder's by default.")
    ] = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    reconstructions: Annotated[
        bool, typer.Option("--reconstructions", help="Also store the decoder's images.")
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Compute a latent vector for every patch and write latents/NAME. Fits first unless --model is given."""
    from geoae.encoding import encode as run  # put off

    options = _encoder_options(context, plugin)
    keep_freed_memory()
    with progress(quiet or json) as report:
        result = run(
            find_cube(cube),
            plugin=plugin,
            model=model,
            options=options,
            input=input,
            target=target,
            split=split,
            min_valid=min_valid,
            name=name,
            device=device,
            overwrite=overwrite,
            reconstructions=reconstructions,
            progress=report,
            dry_run=dry_run,
        )
    for text in result.notes:
        note(f"note: {text}", quiet=quiet)
    state = "" if result.created or dry_run else " (there already, nothing done)"
    text = f"{result.path}: {result.encoded} patches, {result.latent_dim} components"
    text += _metrics_text(result.metrics)
    if result.unusable:
        text += f"; {result.unusable} patches have too few valid pixels"
    if dry_run:
        model_state = "" if result.training is None else f" would be fitted on {result.training} patches"
        text += f"; about {size(result.n_bytes)}; model {result.model}{model_state or ' is there'}"
        if result.exists:
            text += f"; {result.path} " + ("would be replaced" if overwrite else "is there already")
        text += "; nothing was written"
    emit({**vars(result), "dry_run": dry_run}, as_json=json, text=text + state)


def _metrics_text(metrics: Any) -> str:
    return "".join(f", {name.replace('_', ' ')} {value:.4g}" for name, value in metrics.items())
