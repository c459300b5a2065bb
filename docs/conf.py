"""Configuration of the documentation; it builds without a network, and warnings are errors."""

import sys
from pathlib import Path

import geoae

sys.path.insert(0, str(Path(__file__).resolve().parent))  # for the extensions beside this file

project = "geoae"
author = "The geoae developers"
copyright = author
version = release = geoae.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
    "numpydoc",
    "cited_tests",
    "generate_catalogs",
    "generate_cli",
]
exclude_patterns = ["_build", "_generated", "jupyter_execute", "**.ipynb_checkpoints"]

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
smartquotes_action = "qe"  # quotes and ellipses; two hyphens begin an option
nb_execution_mode = "cache"
nb_execution_raise_on_error = True
nb_merge_streams = True  # what one cell prints is one block

autodoc_typehints = "none"  # the docstrings state shapes, dtypes and units, which annotations cannot
autodoc_member_order = "bysource"
autosummary_generate = False
numpydoc_show_class_members = False

html_theme = "pydata_sphinx_theme"
html_title = f"geoae {version}"
html_static_path = ["_static"]
html_css_files = ["tables.css"]
html_show_sourcelink = False
html_sidebars = {"**": []}  # the pages are in the bar above; without a sidebar code fits into a line
html_theme_options = {
    "show_prev_next": True,
    "navbar_end": ["theme-switcher"],
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}
