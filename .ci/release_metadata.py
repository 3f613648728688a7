"""Write into a checkout what only a release knows: the address of its repository, in the README's links and in `pyproject.toml`.

    python .ci/release_metadata.py https://example.org/owner/name v0.1.0

Package indexes show the README without the repository's files, so each relative link becomes an address of the release's tag.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

_LINK = re.compile(r"(?P<image>!?)\[(?P<text>[^\]]*)\]\((?P<target>(?!https?://|#|mailto:)[^)\s]+)\)")
_URLS = {
    "Source": "{repository}",
    "Documentation": "{repository}/tree/{tag}/ddb_lake/docs",
    "Changelog": "{repository}/blob/{tag}/ddb_lake/docs/changelog.md",
    "Issues": "{repository}/issues",
}


def absolute_links(markdown: str, repository: str, tag: str) -> str:
    """The text with relative links as addresses of a tag: pages for links, files for images."""

    def absolute(link: re.Match[str]) -> str:
        kind = "raw" if link["image"] else "blob"
        return f"{link['image']}[{link['text']}]({repository}/{kind}/{tag}/{link['target']})"

    return _LINK.sub(absolute, markdown)


def with_urls(pyproject: str, repository: str, tag: str) -> str:
    """The text of a `pyproject.toml` with `[project.urls]`. Raises ValueError if it has them already."""
    if "[project.urls]" in pyproject:
        raise ValueError("pyproject.toml has [project.urls] already")
    lines = [f'{name} = "{url.format(repository=repository, tag=tag)}"' for name, url in _URLS.items()]
    return pyproject.replace(
        "\n[project.scripts]\n", "\n[project.urls]\n" + "\n".join(lines) + "\n\n[project.scripts]\n"
    )


def main(folder: Path, repository: str, tag: str) -> None:
    """Change the two files of a checkout."""
    for name, change in (("README.md", absolute_links), ("pyproject.toml", with_urls)):
        path = folder / name
        path.write_text(change(path.read_text(encoding="utf-8"), repository.rstrip("/"), tag), encoding="utf-8")


if __name__ == "__main__":
    main(Path.cwd(), *sys.argv[1:])
