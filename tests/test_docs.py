"""The pages tell the truth: their examples run, their links lead somewhere, their terms are defined."""

import re
import runpy
from itertools import pairwise
from pathlib import Path

import pytest
from command_line import commands
from document_examples import RUNNABLE, Block, blocks_of, run_page, unprinted

REPOSITORY = Path(__file__).resolve().parents[1]
DOCS = REPOSITORY / "docs"
PAGES = [
    REPOSITORY / "README.md",
    REPOSITORY / "CONTRIBUTING.md",
    REPOSITORY / "CHANGELOG.md",
    *sorted(path for path in DOCS.rglob("*.md") if "_build" not in path.parts),
]
# The README is run by test_packaging, from the built wheel.
RUN_HERE = [page for page in PAGES if page.name != "README.md"]
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")
TERMS = (
    "scene",
    "band",
    "modality",
    "grid",
    "window",
    "patch",
    "stride",
    "valid",
    "latent",
    "component",
    "layer",
)


def name(page: Path) -> str:
    return str(page.relative_to(REPOSITORY))


def without_blocks(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_example_says_whether_it_is_run(page):
    unmarked = [
        f"{name(page)}:{block.line}"
        for block in blocks_of(page.read_text(encoding="utf-8"))
        if block.language in RUNNABLE and not block.mark
    ]
    assert unmarked == [], "put <!-- run --> or <!-- not run: why --> before the block"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_text_after_an_example_that_is_run_says_whether_it_is_its_output(page):
    blocks = blocks_of(page.read_text(encoding="utf-8"))
    unmarked = [
        f"{name(page)}:{shown.line}"
        for run, shown in pairwise(blocks)
        if run.mark == "run" and shown.language == "text" and not shown.mark
    ]
    assert unmarked == [], "put <!-- output --> or <!-- not output: why --> before the block"
    lost = [
        f"{name(page)}:{shown.line}"
        for run, shown in pairwise([Block("", "", 0, ""), *blocks])
        if shown.mark == "output" and (run.mark != "run" or shown.language != "text")
    ]
    assert lost == [], "an output follows the block that prints it"


@pytest.mark.slow
@pytest.mark.parametrize(
    "page",
    [page for page in RUN_HERE if any(b.mark == "run" for b in blocks_of(page.read_text(encoding="utf-8")))],
    ids=name,
)
def test_the_examples_of_a_page_run(page, tmp_path):
    assert run_page(page, tmp_path) > 0


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_to_files_lead_somewhere(page):
    broken = []
    for match in LINK.finditer(without_blocks(page.read_text(encoding="utf-8"))):
        target = match.group(1) or match.group(2)
        if re.match(r"[a-z]+:|#", target):
            continue
        if not (page.parent / target.partition("#")[0]).exists():
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_the_verbs_of_make_exist(page):
    verbs = set(
        re.findall(r"^([a-z]+):", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    )
    named = re.findall(r"(?:^|`)make ([a-z]+)\b", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert set(named) - verbs == set()


def test_the_glossary_defines_every_term():
    glossary = (
        (DOCS / "concepts.md").read_text(encoding="utf-8").partition("```{glossary}")[2].partition("```")[0]
    )
    defined = {line.strip() for line in glossary.splitlines() if line and not line.startswith((" ", ":"))}
    assert set(TERMS) - defined == set()


def test_every_page_is_reached_from_the_index():
    reached = {DOCS / "index.md"}
    pages = {page for page in PAGES if DOCS in page.parents and "_generated" not in page.parts}
    for page in pages:
        for tree in re.findall(r"```\{toctree\}(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
            names = [line.strip() for line in tree.splitlines() if line.strip() and line[0] != ":"]
            reached |= {page.parent / f"{entry}.md" for entry in names}
    assert pages == reached


def test_every_test_and_command_of_the_tables_exists():
    """Each row of a table that cites a test or a command, on every page."""
    script = runpy.run_path(str(DOCS / "cited_tests.py"))
    known = {" ".join(words) for words in commands()}
    groups = {words[0] for words in commands() if len(words) > 1}
    for page in (page for page in PAGES if DOCS in page.parents):
        assert script["missing_tests"](page, REPOSITORY / "tests") == [], name(page)
        rows = [line for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
        for words in re.findall(r"`geoae ([a-z][a-z-]*(?: [a-z][a-z-]*(?![\w./-]))?)", "\n".join(rows)):
            first = words.partition(" ")[0]
            assert words in known | groups or first in known, f"{name(page)}: geoae {words}"


def test_every_row_of_the_documents_is_mapped():
    """The rows about networks, by their letters and numbers."""
    table = (DOCS / "autoencoders.md").read_text(encoding="utf-8").partition("row by row")[2]
    found = set()
    for line in table.splitlines():
        for letter, start, stop in re.findall(
            r"\b([ATHPGDC])(\d+)(?:-[ATHPGDC](\d+))?", line.split("|")[1] if "|" in line else ""
        ):
            found |= {f"{letter}{n}" for n in range(int(start), int(stop or start) + 1)}
    wanted = {f"A{n}" for n in range(1, 19)} | {f"G{n}" for n in (*range(1, 8), 10)}
    wanted |= {"T2", "T3", "T8", "H1", "H2", "H3", "H10", "P1", "D1", "D4", "D5", "D6"}
    assert wanted | {"C1", "C2", *(f"C{n}" for n in range(5, 10))} <= found


# The reading of the pages itself.


PAGE = """
text

<!-- run -->
```bash
echo a
```

```console
$ b
```
<!-- not run: no data -->

```python
c
```
"""


def test_blocks_are_found_with_their_marks():
    assert [tuple(block) for block in blocks_of(PAGE)] == [
        ("bash", "echo a\n", 5, "run"),
        ("console", "$ b\n", 9, ""),
        ("python", "c\n", 14, "not run: no data"),
    ]


@pytest.mark.parametrize("page", ["<!-- run -->\ntext\n```bash\na\n```\n", "```bash\na\n", "<!-- run -->\n"])
def test_a_stray_mark_or_an_open_block_is_refused(page):
    with pytest.raises(ValueError, match="line"):
        blocks_of(page)


def test_blocks_share_their_folder_and_a_failing_one_fails(tmp_path):
    page = tmp_path / "page.md"
    write, read = "```bash\necho 1 > x\n```\n", "```python\nprint(1 / int(open('x').read()))\n```\n"
    page.write_text(f"<!-- run -->\n{write}\n<!-- run -->\n{read}")
    assert run_page(page, tmp_path) == 2
    page.write_text("<!-- run -->\n```bash\nfalse | true\necho unreached\n```\n")
    with pytest.raises(AssertionError, match="exit code 1"):
        run_page(page, tmp_path)


PRINTED = """\
note: a.tif is read
cube.zarr made
clusters/pca: 8 clusters of 6, 4 patches, silhouette 0.08
  about 216.2 MB on disk, 75.6 GB free
"""


@pytest.mark.parametrize(
    ("shown", "missing"),
    [
        ("cube.zarr made\nclusters/pca: 8 clusters of 6, 4 patches, silhouette 0.08\n", None),
        ("cube.zarr made\n\nclusters/pca: 8 clusters of ... patches, silhouette 0.08", None),
        ("note: a.tif is read\n...\n  about 216.2 MB on disk, 1.2 GB free", None),
        ("  about 221.3 MB on disk, 75.6 GB free", "  about 221.3 MB on disk, ... free"),
        (
            "clusters/pca: 8 clusters of 6, 4 patches, silhouette 0.06",
            "clusters/pca: 8 clusters of 6, 4 patches, silhouette 0.06",
        ),
        ("note: a.tif is read\n  about 216.2 MB on disk, 1.2 GB free", "  about 216.2 MB on disk, ... free"),
        ("cube.zarr made\nnote: a.tif is read", "note: a.tif is read"),
        ("cube.zarr", "cube.zarr"),
        ("  about 217 MB on disk, 1.2 GB free", None),  # another processor
        ("clusters/pca: 8 clusters of 6, 5 patches, silhouette 0.08",) * 2,
        ("clusters/pca: 8 clusters of   6, 4 patches, silhouette 0.09", None),
    ],
)
def test_shown_lines_are_compared_with_printed_ones(shown, missing):
    assert unprinted(shown, PRINTED) == missing


def test_a_page_that_shows_another_number_fails(tmp_path):
    page = tmp_path / "page.md"
    run = "<!-- run -->\n```bash\necho $PWD/x has 3 patches\n```\n\n<!-- output -->\n```text\n{}\n```\n"
    page.write_text(run.format("x has 3 patches"))
    assert run_page(page, tmp_path) == 1
    page.write_text(run.format("x has 4 patches"))
    with pytest.raises(AssertionError, match="line 7: shown but not printed there:\nx has 4 patches"):
        run_page(page, tmp_path)
