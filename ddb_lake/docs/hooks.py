"""MkDocs hooks: add generated pages and pages from outside this folder, reject pages that load remote content, and rank the search.

Links lead to files of the repository. `links_in_site` changes them to places in the site.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from os.path import relpath
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from ddb_lake.core.operations.release import release
from ddb_lake.docs.reference import PAGES

HERE = Path(__file__).parent
ARCHITECTURE = HERE.parent / "ARCHITECTURE.md"
DECISIONS = HERE.parent / "decisions"

DECISIONS_BOOST = 0.1
"""The weight of the decisions in the site's search: guides come first."""

OVERVIEW = "reference.md"

_FETCHED = re.compile(r'<(?:script|link|img|iframe)\b[^>]*(?:src|href)="((?:https?:)?//[^"]+)"')
_LINK = re.compile(r"(?<=\]\()[^)#:\s]+\.md(?=[)#])")
_log = logging.getLogger("mkdocs.hooks")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Use this folder as the source folder, so links between pages work both on disk and in the site."""
    config.docs_dir = str(HERE)
    config.site_name = f"{config.site_name} {release()}"
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the reference, the architecture page and the decisions."""
    for name, page in PAGES.items():
        files.append(File.generated(config, name, content=page()))
    elsewhere = {f"decisions/{path.name}": path for path in sorted(DECISIONS.glob("*.md"))}
    for name, path in {"explanation/architecture.md": ARCHITECTURE, **elsewhere}.items():
        files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001  # MkDocs's
    """Change links that are correct between the files to the places that the pages have in the site."""
    source = page.file.abs_src_path
    if page.file.src_uri.startswith("decisions/"):
        page.meta["search"] = {"boost": DECISIONS_BOOST}
    if source is None:
        return markdown
    places = {Path(file.abs_src_path): file.src_uri for file in files if file.abs_src_path}
    if page.file.src_uri == OVERVIEW:
        return overview()
    return links_in_site(markdown, Path(source), places)


def overview() -> str:
    """The overview of the reference in the site: a link to each generated page. In the repository, the page names the code instead."""
    pages = [(path, page().partition("\n")[0].removeprefix("# ")) for path, page in PAGES.items()]
    links = "\n".join(f"- [{title}]({path})" for path, title in pages)
    return f"# Reference\n\nThese pages are generated from the code, so they always match it.\n\n{links}\n"


def links_in_site(markdown: str, source: Path, places: Mapping[Path, str]) -> str:
    """Return the text of the file `source` with links between the places that files have in the site."""
    here = Path(places[source]).parent

    def in_site(link: re.Match[str]) -> str:
        place = places.get((source.parent / link[0]).resolve())
        return link[0] if place is None else relpath(place, here)

    return _LINK.sub(in_site, markdown)


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:  # noqa: ARG001  # MkDocs's signature
    """Warn about remote content that a browser would load to show a page."""
    for address in _FETCHED.findall(output):
        _log.warning("%s fetches %s", page.file.src_uri, address)
    return output
