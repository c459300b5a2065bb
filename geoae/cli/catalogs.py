"""Commands about catalogs: list and show those there are, start one, check one against a folder."""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from geoae.cli.options import Json, Overwrite, Quiet, emit, note
from geoae.cli.progress import progress

__all__ = ["register"]

_SHOWN = 20
"""Lines of a kind that are printed for people; --json has them all."""

Folder = Annotated[Path, typer.Argument(help="Folder with the rasters, searched recursively.")]
Links = Annotated[bool, typer.Option("--follow-symlinks", help="Follow links that leave the folder.")]


class _Catalogs(TyperGroup):
    """A group in which ``catalogs NAME`` is short for ``catalogs show NAME``."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            args = ["show", *args]
        return super().resolve_command(ctx, args)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    catalogs = typer.Typer(
        cls=_Catalogs, invoke_without_command=True, callback=listing, pretty_exceptions_enable=False
    )
    catalogs.command(name="list")(list_shipped)
    catalogs.command()(show)
    catalogs.command()(init)
    catalogs.command()(check)
    catalogs.command()(schema)
    app.add_typer(catalogs, name="catalogs")


def listing(context: typer.Context, json: Json = False) -> None:
    """List the shipped catalogs; show, start or check one."""
    if context.invoked_subcommand is None:
        list_shipped(json=json)


def list_shipped(json: Json = False) -> None:
    """List the shipped catalogs."""
    from geoae.catalog import shipped_catalogs  # put off

    found = shipped_catalogs()
    text = "\n".join(f"{key:10} {c.title}" for key, c in found.items())
    emit({key: c.title for key, c in found.items()}, as_json=json, text=text)


def show(
    name: Annotated[str, typer.Argument(help="Name of a shipped catalog, or the path of one's own.")],
    json: Json = False,
) -> None:
    """Show a catalog: names of files, modalities, classes, licence."""
    from geoae.catalog import load_catalog  # put off

    catalog = load_catalog(name, pattern="{scene}_{kind}.tif" if name == "generic" else None)
    lines = [f"{catalog.name}: {catalog.title}", *(f"  files {n.file}" for n in catalog.names)]
    for key, m in catalog.modalities.items():
        bands = f", bands {', '.join(b.name for b in m.bands)}" if m.bands else ""
        lines.append(f"  {key}: {m.role}, named {', '.join(m.kinds)}{bands}")
    for key, table in catalog.class_tables.items():
        lines.append(f"  classes {key}: " + ", ".join(f"{c.code} {c.name}" for c in table.classes))
    lines += [f"  licence: {catalog.licence}"] * bool(catalog.licence)
    lines += [f"  cite: {catalog.citation}"] * bool(catalog.citation)
    emit(catalog.model_dump(mode="json"), as_json=json, text="\n".join(lines))


def init(
    folder: Folder,
    out: Annotated[
        Path | None, typer.Option(help="The YAML file; FOLDER's name + .yaml here by default.")
    ] = None,
    follow_symlinks: Links = False,
    overwrite: Overwrite = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write a first catalog for a folder from the names, headers and some pixels of its files.

    What a person must decide is marked DECIDE in the file.
    """
    from geoae.drafts import draft_catalog, write_draft  # put off

    draft = draft_catalog(folder, follow_symlinks=follow_symlinks)
    path = write_draft(draft, out or Path(f"{draft.catalog.name}.yaml"), overwrite=overwrite)
    for text in draft.problems:
        note(f"warning: {text}", quiet=quiet)
    for text in draft.decisions:
        note(f"decide: {text}", quiet=quiet)
    note(f"next: geoae catalogs check {path} {folder}", quiet=quiet)
    document = {
        "path": str(path),
        "files": draft.files,
        "modalities": {key: m.role for key, m in draft.catalog.modalities.items()},
        "names": [naming.file for naming in draft.catalog.names],
        "decisions": list(draft.decisions),
        "problems": list(draft.problems),
    }
    emit(document, as_json=json, text=str(path))


def check(
    file: Annotated[str, typer.Argument(help="Path of a catalog, or the name of a shipped one.")],
    folder: Folder,
    pattern: Annotated[
        str | None, typer.Option(help='How files are named, for the generic catalog: "{scene}_{kind}.tif".')
    ] = None,
    follow_symlinks: Links = False,
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Say what an ingest of FOLDER with this catalog would take; exit 3 if it would stop.

    Reads all headers and a few pixels, and writes nothing.
    """
    from geoae.catalog import load_catalog  # put off
    from geoae.checks import check_catalog  # put off

    catalog = load_catalog(file, pattern=pattern)
    with progress(quiet or json) as report:
        found = check_catalog(
            folder,
            catalog,
            follow_symlinks=follow_symlinks,
            progress=lambda stage, done, total: report(stage, done, total, {}),
        )
    emit(_check_document(found), as_json=json, text=_check_text(found, catalog))
    return 0 if found.ok else 3


def schema() -> None:
    """Print the JSON schema of catalogs, for editors that complete and check YAML."""
    import json

    from geoae.catalog import catalog_schema  # put off

    print(json.dumps(catalog_schema(), indent=2, ensure_ascii=False))


def _check_document(found: Any) -> dict[str, Any]:
    return {
        "catalog": found.catalog,
        "ok": found.ok,
        "scenes": [
            {
                "key": header.scene.key,
                "status": header.status,
                "shape": list(header.grid.shape) if header.grid else None,
                "reference": header.reference,
                "modalities": {name: how for name, how in header.provided.items() if how != "missing"},
                "files": {name: source.name for name, source in header.scene.sources.items()},
            }
            for header in found.scenes
        ],
        "modalities": found.provided(),
        "ignored": list(found.ignored),
        "excluded": list(found.excluded),
        "problems": list(found.problems),
        "remarks": list(found.remarks),
        "codes": {name: {str(code): n for code, n in seen.items()} for name, seen in found.codes.items()},
        "codes_outside_class_table": {name: list(codes) for name, codes in found.outside.items()},
    }


def _check_text(found: Any, catalog: Any) -> str:
    usable = sum(header.ok for header in found.scenes)
    lines = [f"{found.catalog}: {usable} of {len(found.scenes)} scenes can be used"]
    for name, ways in found.provided().items():
        lines.append(f"  {name}: " + ", ".join(f"{number} {how}" for how, number in sorted(ways.items())))
    for name, seen in found.codes.items():
        void = set(found.outside.get(name, ()))
        named = (
            f"{code} {catalog.codes.get(code, '')}".strip() + (" (void)" if code in void else "")
            for code in seen
        )
        lines.append(f"  codes of {name} in a sample: " + ", ".join(named))
    for title, texts in (
        ("problem", found.problems),
        ("remark", found.remarks),
        ("ignored", found.ignored),
        ("left out on purpose", found.excluded),
    ):
        lines += [f"  {title}: {' '.join(text.split())}" for text in texts[:_SHOWN]]
        if len(texts) > _SHOWN:
            lines.append(f"  {title}: and {len(texts) - _SHOWN} more; --json has all")
    return "\n".join(lines)
