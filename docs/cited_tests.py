"""Warn at each build of the pages about tests that a page cites and that do not exist."""

import re
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.util import logging

CITED = re.compile(r"`(test_\w+)::(test_\w+)`")


def missing_tests(page: Path, tests: Path) -> list[str]:
    """Return the cited tests of a page, ``test_file::test_name``, that are in none of the test files."""
    missing = []
    for module, name in CITED.findall(page.read_text(encoding="utf-8")):
        path = tests / f"{module}.py"
        if not (path.is_file() and f"def {name}(" in path.read_text(encoding="utf-8")):
            missing.append(f"{module}::{name}")
    return missing


def check(app: Sphinx) -> None:
    """Check all pages of the documentation."""
    pages = Path(app.confdir)
    for page in sorted(pages.glob("*.md")):
        for name in missing_tests(page, pages.parent / "tests"):
            logging.getLogger(__name__).warning("%s cites a test that does not exist: %s", page.name, name)


def setup(app: Sphinx) -> dict[str, bool]:
    """Run at the start of a build."""
    app.connect("builder-inited", check)
    return {"parallel_read_safe": True}
