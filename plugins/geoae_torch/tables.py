"""Tables of networks: every preset, or the layers of one, from arithmetic alone."""

from typing import Any

from geoae.errors import UsageError
from geoae_torch.architecture import (
    Architecture,
    Conv,
    Crop,
    Dense,
    DepthToSpace,
    Flatten,
    Layer,
    Pool,
    Recurrent,
    Reshape,
    Residual,
    SpaceToDepth,
    TransposedConv,
    Upsample,
)
from geoae_torch.description import load_architecture, write_architecture
from geoae_torch.presets import preset, preset_names
from geoae_torch.shapes import Plan, plan
from geoae_torch.sizes import text_of

__all__ = ["describe_networks", "layer_text", "plan_document", "plan_text"]


def describe_networks(
    name: str | None = None,
    *,
    patch: int | None = None,
    bands: int | None = None,
    latent_dim: int | None = None,
    variational: bool | None = None,
    as_yaml: bool = False,
) -> tuple[Any, str]:
    """Describe the presets, or the layers of one network; what ``geoae networks`` prints.

    Parameters
    ----------
    name
        A preset, or the path of a network's YAML file; None for all presets.
    patch, bands, latent_dim, variational
        As for `geoae_torch.shapes.plan`; those of the description by default.
    as_yaml
        Give the description as YAML, to start one's own from.

    Returns
    -------
    tuple
        A document of plain values, and the text.

    Raises
    ------
    UsageError
        If there is no such network, or it does not fit.
    """
    sizes: dict[str, Any] = {
        "patch": patch,
        "bands": bands,
        "latent_dim": latent_dim,
        "variational": variational,
    }
    if name is None:
        if as_yaml:
            raise UsageError("--yaml needs the name of a network")
        rows = [_row(preset(each), sizes) for each in preset_names()]
        return rows, _list_text(rows)
    architecture = load_architecture(name)
    if as_yaml:
        return architecture.model_dump(mode="json"), write_architecture(architecture).rstrip("\n")
    planned = plan(architecture, **sizes)
    return plan_document(planned), plan_text(planned)


def plan_document(planned: Plan) -> dict[str, Any]:
    """Return a network with all its sizes as plain values."""
    described = planned.architecture
    return {
        "name": described.name,
        "title": described.title,
        "source": described.source,
        "notes": described.notes,
        "patch": list(planned.patch),
        "bands": planned.bands,
        "out_bands": planned.out_bands,
        "latent_dim": planned.latent_dim,
        "variational": planned.variational,
        "layers": [
            {
                "name": step.name,
                "layer": layer_text(step.layer),
                "output": list(step.outputs),
                "parameters": step.parameters,
            }
            for step in planned.steps
        ],
        "encoder_parameters": planned.encoder_parameters,
        "decoder_parameters": planned.decoder_parameters,
        "parameters": planned.parameters,
    }


def plan_text(planned: Plan) -> str:
    """Return the table of layers: name, layer, output shape, trainable parameters."""
    described = planned.architecture
    form = "mean and log-variance" if planned.variational else "one code"
    lines = [f"{described.name}: {described.title}".rstrip(": ")]
    lines += [f"  {text}" for text in (described.source, described.notes) if text]
    lines.append(
        f"  patches {text_of((*planned.patch, planned.bands))}, latent vector {planned.latent_dim}, {form}"
    )
    rows = [
        (step.name, layer_text(step.layer), text_of(step.outputs), f"{step.parameters:,}")
        for step in planned.steps
    ]
    rows.insert(0, ("part", "layer", "output", "parameters"))
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    lines += [
        f"  {a:{widths[0]}}  {b:{widths[1]}}  {c:>{widths[2]}}  {d:>{widths[3]}}".rstrip()
        for a, b, c, d in rows
    ]
    lines.append(
        f"  trainable parameters {planned.parameters:,}: encoder {planned.encoder_parameters:,}, "
        f"decoder {planned.decoder_parameters:,}"
    )
    return "\n".join(lines)


def layer_text(layer: Layer) -> str:
    """Describe a layer in a few words.

    Examples
    --------
    >>> layer_text(Conv(filters=8, stride=2, activation="selu"))
    'conv 3x3 stride 2, selu'
    >>> layer_text(Pool(how="average"))
    'average pool 2x2'
    """
    words = _words(layer)
    if isinstance(layer, Conv | TransposedConv) and layer.padding == "valid":
        words += ", valid"
    activation = getattr(layer, "activation", "linear")
    if activation != "linear":
        words += f", {activation}"
    return words + ", batch norm" if getattr(layer, "batch_norm", False) else words


def _words(layer: Layer) -> str:
    match layer:
        case Conv() | TransposedConv():
            kind = "conv" if isinstance(layer, Conv) else "transposed conv"
            return f"{kind} {layer.kernel}x{layer.kernel}" + (
                f" stride {layer.stride}" if layer.stride > 1 else ""
            )
        case Residual():
            return f"residual {layer.kernel}x{layer.kernel}"
        case Pool(how="global-max"):
            return "global max pool"
        case Pool():
            same = " same" if layer.padding == "same" else ""
            return f"{layer.how} pool {layer.size}x{layer.size}{same}" + (
                ", indices saved" if layer.indices else ""
            )
        case Upsample(how="unpool"):
            return "unpool"
        case Upsample():
            return f"upsample {layer.factor}x {layer.how}"
        case SpaceToDepth() | DepthToSpace():
            return f"{layer.layer.replace('-', ' ')} {layer.factor}x"
        case Recurrent():
            return f"{layer.cell} over rows, {'last state' if layer.returns == 'last' else 'every state'}"
        case Dense() | Flatten() | Reshape() | Crop():
            return layer.layer


def _row(architecture: Architecture, sizes: dict[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {
        "name": architecture.name,
        "title": architecture.title,
        "source": architecture.source,
    }
    try:
        planned = plan(architecture, **sizes)
    except UsageError as error:
        return row | {"parameters": None, "problem": error.message}
    return row | {
        "patch": list(planned.patch),
        "bands": planned.bands,
        "latent_dim": planned.latent_dim,
        "variational": planned.variational,
        "parameters": planned.parameters,
        "problem": "",
    }


def _list_text(rows: list[dict[str, Any]]) -> str:
    lines: list[str] = []
    source = None
    for row in rows:
        if row["source"] != source:
            source = row["source"]
            lines.append(source)
        if row["problem"]:
            lines.append(f"  {row['name']:13} {row['problem']}")
            continue
        size = text_of((*row["patch"], row["bands"]))
        code = f"{row['latent_dim']}{' x 2' if row['variational'] else ''}"
        lines.append(
            f"  {row['name']:13} {size:>14}  code {code:8}  {row['parameters']:>11,}  {row['title']}"
        )
    return "\n".join(lines)
