"""What the README, the tutorial and the examples have their readers type works, in the order of the page."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.docs_lines import EXAMPLES, FROM_SCRATCH
from tests.support.docs_pages import REPOSITORY, Line
from tests.support.docs_reader import Reader


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    made = Reader(tmp_path)
    yield made
    made.leave()


@pytest.mark.parametrize("page", FROM_SCRATCH)
def test_from_an_empty_folder(page: str, reader: Reader) -> None:
    reader.follow(page)
    reader.assert_all_went_well()


@pytest.mark.parametrize("page", EXAMPLES)
def test_in_an_example(page: str, reader: Reader) -> None:
    """Beside the documentation, as in the repository: one of them reads that."""
    folder = reader.home / Path(page).parent
    shutil.copytree(REPOSITORY / Path(page).parent, folder, ignore=shutil.ignore_patterns(".*", "__pycache__"))
    (reader.home / "docs").symlink_to(REPOSITORY / "docs")
    reader.type(Line(f"cd {folder}"))
    reader.follow(page)
    reader.assert_all_went_well()
