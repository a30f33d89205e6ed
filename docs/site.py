"""A hook of mkdocs: README, changelog and the examples are pages too. A tool of this repository.

The pages in docs/ are written for whoever reads them in the repository, where `../examples/research` is a folder;
on the site it is the page of that example, and links lead there.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
_LINK = re.compile(r"\[([^\]]+)\]\((?!https?:|#)([^)#\s]+)(#[^)\s]*)?\)")
_TOP = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are elsewhere in the repository."""
    for path in [*_TOP, *sorted(str(each.relative_to(ROOT)) for each in ROOT.glob("examples/*/README.md"))]:
        target = site_path(path)
        assert target is not None
        files.append(File.generated(config, target, content=(ROOT / path).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links within the repository into links within the site."""
    here = repository_path(page.file.src_uri)

    def link(match: re.Match[str]) -> str:
        text, target, anchor = match[1], match[2], match[3] or ""
        found = site_path(posixpath.normpath(posixpath.join(posixpath.dirname(here), target)))
        if found is None:
            return text  # a file of the repository, such as a licence, which is no page
        return f"[{text}]({posixpath.relpath(found, posixpath.dirname(page.file.src_uri) or '.')}{anchor})"

    return _LINK.sub(link, markdown)


def site_path(path: str) -> str | None:
    """Return where a file of the repository is on the site."""
    if path in _TOP:
        return _TOP[path]
    example = re.fullmatch(r"examples/(\w+)(?:/README\.md)?", path)
    if example is not None:
        return f"examples/{example[1]}.md"
    return path.removeprefix("docs/") if path.startswith("docs/") and (ROOT / path).is_file() else None


def repository_path(uri: str) -> str:
    """Return the file of the repository that a page was made from."""
    example = re.fullmatch(r"examples/(\w+)\.md", uri)
    if example is not None:
        return f"examples/{example[1]}/README.md"
    return next((path for path, target in _TOP.items() if target == uri), f"docs/{uri}")
