"""The house rules that a reader can check on the source alone: import order, seams, size of files."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import geoae

REPOSITORY = Path(__file__).resolve().parents[1]
CORE = REPOSITORY / "geoae"
PLUGINS = REPOSITORY / "plugins"
MAX_LINES = 400
PLUGIN_DOORS = {"geoae.encoder", "geoae.errors"}

READER_DOORS = {"geoae.batches", "geoae.cube", "geoae.schema", "geoae.splits"}
READERS = {"geoae_torch.dataset"}
"""Modules that are no encoders: they read cubes for training loops of others, as any program may."""


class Import(NamedTuple):
    """One imported module, and where."""

    module: str
    line: int
    inside_function: bool


def module_name(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def modules_of(root: Path, *packages: Path) -> dict[str, Path]:
    return {module_name(path, root): path for package in packages for path in sorted(package.rglob("*.py"))}


CORE_MODULES = modules_of(REPOSITORY, CORE)
PLUGIN_MODULES = modules_of(PLUGINS, *sorted(PLUGINS.glob("*/")))


def imports_of(source: str, name: str, *, is_package: bool, known: set[str]) -> Iterator[Import]:
    """Every import of a module, absolute; ``from package import module`` counts as the module."""

    def walk(node: ast.AST, inside: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                for alias in child.names:
                    yield Import(alias.name, child.lineno, inside)
            elif isinstance(child, ast.ImportFrom):
                module = child.module or ""
                if child.level:
                    package = name.split(".") if is_package else name.split(".")[:-1]
                    package = package[: len(package) - child.level + 1]
                    module = ".".join([*package, *([module] if module else [])])
                for alias in child.names:
                    full = f"{module}.{alias.name}"
                    yield Import(full if full in known else module, child.lineno, inside)
            else:
                function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
                yield from walk(child, inside or function)

    yield from walk(ast.parse(source), False)


def imports_of_file(name: str, path: Path, known: set[str]) -> list[Import]:
    return list(
        imports_of(path.read_text(encoding="utf-8"), name, is_package=path.name == "__init__.py", known=known)
    )


def unit(module: str) -> str:
    """The top-level part of the core that a module belongs to: ``geoae.cli.main`` -> ``cli``."""
    return module.split(".")[1] if "." in module else ""


def misplaced(name: str, found: list[Import], order: tuple[str, ...]) -> list[str]:
    """Imports of the core that point at a later unit, or at one that has no place."""
    own = unit(name)
    faults = []
    for imported in found:
        if imported.module.split(".")[0] != "geoae":
            continue
        other = unit(imported.module)
        if other == own or (other == "" and imported.module == "geoae" and own == order[-1]):
            continue
        if other not in order or order.index(other) >= order.index(own):
            faults.append(f"{name}:{imported.line} imports {imported.module}")
    return faults


def unexplained(name: str, source: str, found: list[Import]) -> list[str]:
    """Own imports inside functions without a comment on their line or the line above."""
    lines = source.splitlines()
    return [
        f"{name}:{imported.line} hides an import of {imported.module}"
        for imported in found
        if imported.inside_function
        and imported.module.split(".")[0] == "geoae"
        and not (
            "#" in lines[imported.line - 1]
            or (imported.line > 1 and lines[imported.line - 2].lstrip().startswith("#"))
        )
    ]


def test_every_module_has_its_place_in_the_order():
    assert len(set(geoae.ORDER)) == len(geoae.ORDER)
    found = {unit(name) for name in CORE_MODULES} - {""}
    assert found - set(geoae.ORDER) == set(), "modules that ORDER in geoae/__init__.py does not name"
    assert set(geoae.ORDER) - found == set(), "names in ORDER without a module"


@pytest.mark.parametrize("name", sorted(set(CORE_MODULES) - {"geoae"}))
def test_a_module_imports_only_from_those_above_it(name):
    found = imports_of_file(name, CORE_MODULES[name], set(CORE_MODULES))
    assert misplaced(name, found, geoae.ORDER) == []


def test_the_front_door_imports_nothing_of_its_own_at_import_time():
    found = imports_of_file("geoae", CORE_MODULES["geoae"], set(CORE_MODULES))
    assert [i for i in found if i.module.startswith("geoae") and not i.inside_function] == []


def test_no_import_circle_inside_a_package():
    known = set(CORE_MODULES)
    graph = {
        name: {
            i.module
            for i in imports_of_file(name, path, known)
            if i.module in known
            and not i.inside_function
            and unit(i.module) == unit(name)
            and i.module != name
        }
        for name, path in CORE_MODULES.items()
        if unit(name)
    }
    while leaves := [name for name, targets in graph.items() if not targets & graph.keys()]:
        for name in leaves:
            del graph[name]
    assert sorted(graph) == [], "modules that import each other in a circle"


@pytest.mark.parametrize("name", sorted(CORE_MODULES))
def test_own_imports_inside_functions_only_in_the_command_line_and_with_a_reason(name):
    source = CORE_MODULES[name].read_text(encoding="utf-8")
    found = imports_of_file(name, CORE_MODULES[name], set(CORE_MODULES))
    if unit(name) not in ("cli", ""):
        assert [i for i in found if i.inside_function and i.module.startswith("geoae")] == []
    assert unexplained(name, source, found) == []


@pytest.mark.parametrize("name", sorted(CORE_MODULES))
def test_the_core_knows_no_torch_and_no_plugin(name):
    foreign = {"torch", *(plugin.split(".")[0] for plugin in PLUGIN_MODULES)}
    found = imports_of_file(name, CORE_MODULES[name], set(CORE_MODULES))
    assert [i for i in found if i.module.split(".")[0] in foreign] == []


@pytest.mark.parametrize("name", sorted(PLUGIN_MODULES))
def test_a_plugin_enters_the_core_by_its_doors_only(name):
    known = set(CORE_MODULES) | set(PLUGIN_MODULES)
    own = name.split(".")[0]
    siblings = {plugin.split(".")[0] for plugin in PLUGIN_MODULES} - {own}
    for imported in imports_of_file(name, PLUGIN_MODULES[name], known):
        top = imported.module.split(".")[0]
        assert top not in siblings, f"{name}:{imported.line} imports another plugin"
        doors = PLUGIN_DOORS | (READER_DOORS if name in READERS else set())
        assert top != "geoae" or imported.module in doors, f"{name}:{imported.line} {imported.module}"


@pytest.mark.parametrize(
    "folder", ["geoae", "plugins", "benchmarks", "studies", "docs", "examples", "scripts"]
)
def test_no_file_is_long(folder):
    long = {
        str(path.relative_to(REPOSITORY)): lines
        for path in sorted((REPOSITORY / folder).rglob("*.py"))
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > MAX_LINES
    }
    assert long == {}, f"files beyond {MAX_LINES} lines; look for the seam"


def test_every_test_file_mirrors_something():
    """A module of the core has a test file whose name begins with the module's."""
    tests = {path.stem for path in (REPOSITORY / "tests").glob("test_*.py")}
    missing = [name for name in geoae.ORDER if not any(test.startswith(f"test_{name}") for test in tests)]
    assert missing == []


# The checks themselves, on sources that break the rules.


ORDER = ("errors", "grid", "cube", "cli")
KNOWN = {"geoae", "geoae.errors", "geoae.grid", "geoae.cube", "geoae.cube.reading", "geoae.cli"}


@pytest.mark.parametrize(
    ("name", "source", "faults"),
    [
        ("geoae.grid", "from geoae.errors import GeoaeError", 0),
        ("geoae.grid", "from geoae import errors", 0),
        ("geoae.grid", "from geoae.cube import open_cube", 1),
        ("geoae.grid", "from geoae import cube", 1),
        ("geoae.grid", "import geoae.cube.reading", 1),
        ("geoae.grid", "from . import cube", 1),
        ("geoae.grid", "from .cube.reading import x", 1),
        ("geoae.grid", "import geoae", 1),
        ("geoae.grid", "from geoae.elsewhere import x", 1),
        ("geoae.grid", "def f():\n    from geoae.cli import main", 1),
        ("geoae.cube.reading", "from .. import grid\nfrom geoae.cube import x", 0),
        ("geoae.cli", "import geoae\nimport numpy", 0),
    ],
)
def test_a_misplaced_import_is_found(name, source, faults):
    found = list(imports_of(source, name, is_package=False, known=KNOWN))
    assert len(misplaced(name, found, ORDER)) == faults


@pytest.mark.parametrize(
    ("source", "faults"),
    [
        ("from geoae.cube import x", 0),
        ("def f():\n    import numpy", 0),
        ("def f():\n    from geoae.cube import x", 1),
        ("def f():\n    # start-up cost\n    from geoae.cube import x", 0),
        ("def f():\n    from geoae.cube import x  # start-up cost", 0),
        ("class C:\n    def f(self):\n        if True:\n            import geoae.cube", 1),
    ],
)
def test_an_unexplained_import_inside_a_function_is_found(source, faults):
    found = list(imports_of(source, "geoae.cli", is_package=False, known=KNOWN))
    assert len(unexplained("geoae.cli", source, found)) == faults
