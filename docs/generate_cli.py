"""Write the reference of the command line from the commands themselves, at each build of the pages."""

import importlib.util
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx


def table_of_options(command: Any, context: Any) -> list[str]:
    """Return the options of a command as rows of a table."""
    rows = []
    for parameter in command.params:
        if getattr(parameter, "hidden", False):
            continue
        record = parameter.get_help_record(context)
        if record is None:  # an argument without help
            record = (parameter.make_metavar(context), "")
        name, text = (" ".join(part.replace("|", "\\|").split()) for part in record)
        rows.append(f"| `{name}` | {text.replace('<', '&lt;')} |")
    return ["", "| option | meaning |", "|---|---|", *rows, ""] if rows else [""]


def describe(command: Any, context: Any, level: int) -> list[str]:
    """Return the lines that describe a command and the commands below it."""
    usage = " ".join(command.collect_usage_pieces(context))
    lines = [
        f"{'#' * level} {context.command_path}",
        "",
        "```text",
        f"{context.command_path} {usage}",
        "```",
        "",
    ]
    lines += [(command.help or "").split("\f")[0].strip(), *table_of_options(command, context)]
    if command.epilog and context.parent is not None:  # the root's is on the page already
        lines += [command.epilog, ""]
    for name in command.list_commands(context) if hasattr(command, "list_commands") else ():
        child = command.get_command(context, name)
        if not child.hidden:
            child_context = type(context)(child, info_name=name, parent=context)
            lines += describe(child, child_context, min(level + 1, 5))
    return lines


def write_reference(target: Path) -> None:
    """Write the reference as Markdown."""
    lines = ["The commands are described here once they are installed."]
    if importlib.util.find_spec("geoae.cli") is not None:
        import typer.main

        from geoae.cli import app

        command: Any = typer.main.get_command(app)
        lines = describe(command, command.context_class(command, info_name="geoae"), 3)
    target.parent.mkdir(exist_ok=True)
    target.write_text("\n".join(lines) + "\n", encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    """Run at the start of a build, before any page is read."""
    target = Path(app.confdir) / "_generated" / "cli.md"
    app.connect("builder-inited", lambda _app: write_reference(target))
    return {"parallel_read_safe": True}
