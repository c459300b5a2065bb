"""The pages tell the truth: their examples run, their links lead somewhere, their terms are defined."""

import re
from pathlib import Path

import pytest
from document_examples import RUNNABLE, blocks_of, run_page

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
