"""Hooks of mkdocs: pages link to files of the repository outside docs/, and formulas become MathML.

The site needs neither a network nor JavaScript for either.
"""

import html
import posixpath
import re
from pathlib import Path

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)#\s]+)")
FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)
ROOT = Path(__file__).parents[1]


def place(file: Path) -> str:
    """Return where a file of the repository is in the site."""
    path = file.relative_to(ROOT).as_posix()
    return path.removeprefix("docs/") if path.startswith("docs/") else f"repository/{path}"


def linked(page: Path) -> list[Path]:
    """Return the existing files to which a page links."""
    targets = [(page.parent / link).resolve() for link in LINK.findall(page.read_text(encoding="utf-8"))]
    return [target for target in targets if target.is_file()]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files outside docs/ to which pages link, directly or by another such file."""
    pages = [ROOT / "docs" / file.src_uri for file in files.documentation_pages()]
    while pages:
        for target in linked(pages.pop()):
            if files.get_file_from_path(place(target)) is None:
                files.append(File.generated(config, place(target), abs_src_path=str(target)))
                if target.suffix == ".md":
                    pages.append(target)
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Let links lead to where their files are in the site."""
    source = Path(page.file.abs_src_path)  # type: ignore[arg-type]

    def moved(link: re.Match[str]) -> str:
        target = (source.parent / link[0]).resolve()
        return posixpath.relpath(place(target), posixpath.dirname(page.file.src_uri)) if target.is_file() else link[0]

    return LINK.sub(moved, markdown)


def on_page_content(content: str, **_: object) -> str:
    """Write formulas as MathML."""

    def formula(found: re.Match[str]) -> str:
        return convert(html.unescape(found[2]).strip(), display="block" if found[1] == "div" else "inline")

    return FORMULA.sub(formula, content)
