"""`file_tools`: what is below the root, and not a byte of what is outside."""

import os
import shutil
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from perdure import Tool, ToolRetry
from perdure.errors import InvalidToolError
from perdure.tools import file_tools

SECRET = "the secret outside"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Make a root with files and links, and secrets around it."""
    base = tmp_path / "root"
    (base / "sub" / "deep").mkdir(parents=True)
    (base / "a.txt").write_text("one\ntwo\nThree\n")
    (base / "sub" / "b.md").write_text("beta\n")
    for outside in (tmp_path / "outside", tmp_path / "root-sibling"):
        outside.mkdir()
        (outside / "secret.txt").write_text(SECRET)
    (tmp_path / "secret.txt").write_text(SECRET)
    (base / "in").symlink_to("sub")
    (base / "in.txt").symlink_to("sub/../a.txt")
    (base / "sub" / "up.txt").symlink_to("../a.txt")
    (base / "out").symlink_to("../outside")
    (base / "out_absolute").symlink_to(tmp_path / "outside")
    (base / "out.txt").symlink_to("../secret.txt")
    (base / "out_by_two").symlink_to("sub/hop")
    (base / "sub" / "hop").symlink_to("../../outside")
    (base / "back").symlink_to(base)
    (base / "loop").symlink_to("loop")
    (base / "dots").symlink_to("../root-sibling/../outside")
    return base


def tools(root: Path, **options: object) -> dict[str, Tool]:
    return {each.name: each for each in file_tools(root, **options)}  # pyright: ignore[reportArgumentType]


ESCAPES = [
    "/etc/passwd",
    "//etc/passwd",
    "../secret.txt",
    "../outside/secret.txt",
    "../root-sibling/secret.txt",
    "sub/../../secret.txt",
    "sub/deep/../../../secret.txt",
    "./.././secret.txt",
    "..",
    "../root/a.txt",
    "out/secret.txt",
    "out_absolute/secret.txt",
    "out.txt",
    "out_by_two/secret.txt",
    "in/hop/secret.txt",
    "sub/hop/secret.txt",
    "dots/secret.txt",
    "back/a.txt",
    "loop",
    "loop/x",
    "in/../../secret.txt",
    "a.txt\0/../../secret.txt",
    "..\0",
    "in/../out/secret.txt",
    "~/secret.txt",
    "..\\secret.txt",
    "%2e%2e/secret.txt",
    "x/" * 500,
    "a" * 5000,
]


@pytest.mark.parametrize("path", ESCAPES)
def test_nothing_outside_is_read(root: Path, path: str) -> None:
    with pytest.raises(ToolRetry) as caught:
        tools(root)["read_file"](path)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("path", [each for each in ESCAPES if not each.startswith(("~", "..\\", "%", "x/"))])
def test_nothing_outside_is_written(root: Path, path: str) -> None:
    before = snapshot(root.parent)
    with pytest.raises(ToolRetry):
        tools(root)["write_file"](path, "overwritten")
    assert snapshot(root.parent) == before


@pytest.mark.parametrize("folder", ["..", "/", "out", "out_absolute", "dots", "sub/../..", "in/../.."])
def test_nothing_outside_is_listed_or_searched(root: Path, folder: str) -> None:
    for name, arguments in (("list_files", (folder,)), ("search_files", ("secret", folder))):
        with pytest.raises(ToolRetry) as caught:
            tools(root)[name](*arguments)
        assert SECRET not in str(caught.value)
    assert SECRET not in tools(root)["search_files"]("secret")


def snapshot(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return {str(path): path.read_text() for path in files}


def test_reading(root: Path) -> None:
    read = tools(root)["read_file"]
    assert read("a.txt") == "one\ntwo\nThree\n"
    assert read("in/b.md") == read("sub/./b.md") == read("sub/deep/../b.md") == "beta\n"
    assert read("in.txt") == read("sub/up.txt") == read("in/up.txt") == "one\ntwo\nThree\n"
    assert read("a.txt", 2, 1) == "two\n\n[1 more lines of 3: go on with start_line=3]"
    assert read("a.txt", 9) == "[a.txt has 3 lines]"


def test_what_is_no_text_file_is_refused_with_a_reason(root: Path) -> None:
    (root / "binary").write_bytes(b"\x7fELF\0\0")
    (root / "latin").write_bytes(b"\xe9\xe8")
    (root / "huge").write_bytes(b"a" * 2000)
    os.mkfifo(root / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        os.chdir(root)
        listening.bind("socket")
    read = tools(root, max_file_bytes=1000)["read_file"]
    reasons = {
        "binary": "binary",
        "latin": "not UTF-8",
        "huge": "2,000 bytes, more than the 1,000",
        "pipe": "a pipe, not a plain file",
        "socket": "a socket",
        "sub": "a folder",
        "nothing": "no file",
        "nothing/x": "no folder",
        "a.txt/x": "Not a directory",
        "": "a folder",
    }
    for path, reason in reasons.items():
        with pytest.raises(ToolRetry, match=reason):
            read(path)
    assert "pipe" not in tools(root)["search_files"]("a")


def test_listing_and_searching(root: Path) -> None:
    listed = tools(root)["list_files"]
    assert "a.txt (14 bytes)" in listed()
    assert "out (link)" in listed()
    assert listed("sub", "*.md") == "sub/b.md (5 bytes)"
    assert listed(".", "sub/*.md") == "sub/b.md (5 bytes)"
    assert listed("in", "*.md") == "in/b.md (5 bytes)"
    assert listed(".", "*.zip").startswith("No files")
    search = tools(root)["search_files"]
    assert search("three") == "a.txt:3: Three"
    assert search("three", ignore_case=False).startswith("No file")
    assert search("BETA", "sub") == "sub/b.md:1: beta"
    with pytest.raises(ToolRetry, match="empty"):
        search("")


def test_lists_and_hits_are_bounded(root: Path) -> None:
    for number in range(1005):
        (root / "sub" / f"{number}.txt").write_text("hit\n")
    assert tools(root)["list_files"]().endswith("[more than 1000 files: name a folder or a pattern]")
    assert tools(root)["search_files"]("hit").endswith("[more than 200 lines: look for something rarer]")


def test_writing(root: Path) -> None:
    write = tools(root)["write_file"]
    (root / "a.txt").chmod(0o640)
    assert write("a.txt", "new") == "Wrote 3 bytes to a.txt."
    assert (root / "a.txt").read_text() == "new"
    assert (root / "a.txt").stat().st_mode & 0o777 == 0o640
    write("sub/new/er/c.txt", "é")
    assert (root / "sub" / "new" / "er" / "c.txt").read_text() == "é"
    write("in.txt", "through a link within")
    assert (root / "a.txt").read_text() == "through a link within"
    assert not [path for path in root.rglob("*.tmp")]
    for path, reason in {"sub": "a folder", "big": "longer"}.items():
        with pytest.raises(ToolRetry, match=reason):
            write(path, "x" * (1_000_001 if path == "big" else 1))


def test_a_write_to_a_full_name_leaves_nothing_behind(root: Path) -> None:
    with pytest.raises(ToolRetry, match="can't be written"):
        tools(root)["write_file"]("n" * 300, "x")
    assert not [path for path in root.rglob("*.tmp")]


def test_hard_links_are_replaced_and_not_written_through(root: Path) -> None:
    os.link(root.parent / "secret.txt", root / "hard.txt")
    tools(root)["write_file"]("hard.txt", "mine")
    assert (root.parent / "secret.txt").read_text() == SECRET


def race(swap: Callable[[], None], act: Callable[[], str]) -> tuple[int, list[str]]:
    """Exchange things as fast as can be while `act` is done over and over."""
    over, swaps, told = threading.Event(), 0, list[str]()

    def keep_swapping() -> None:
        nonlocal swaps
        while not over.is_set():
            swap()
            swaps += 1

    thread = threading.Thread(target=keep_swapping)
    thread.start()
    end = time.monotonic() + 0.8
    try:
        while time.monotonic() < end:
            try:
                told.append(act())
            except ToolRetry as error:
                told.append(str(error))
    finally:
        over.set()
        thread.join()
    return swaps, told


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_what_is_exchanged_meanwhile_leads_nowhere(root: Path, kind: str) -> None:
    """A folder, or a file, is a link to the outside every other moment."""
    (root / "spare").mkdir()
    (root / "spare" / "secret.txt").write_text("inside")
    if kind == "file":
        (root / "spare.txt").write_text("inside")
    victim, good = (root / "swap", root / "spare") if kind == "folder" else (root / "swap.txt", root / "spare.txt")
    target = "../outside" if kind == "folder" else "../secret.txt"

    def swap() -> None:
        try:
            os.rename(good, victim)
            os.rename(victim, good)
            os.symlink(target, victim)
            os.unlink(victim)
        except OSError:  # the tool has made a folder of that name in the moment when there was none
            shutil.rmtree(victim, ignore_errors=True)

    path = "swap/secret.txt" if kind == "folder" else "swap.txt"
    every = tools(root)
    before = snapshot(root.parent / "outside")

    def act() -> str:
        try:
            return every["read_file"](path)
        finally:
            if kind == "folder":
                every["write_file"]("swap/../in/d.txt", "x")
                every["write_file"](path, "inside")

    swaps, told = race(swap, act)
    assert swaps > 50
    assert "inside" in told, "the race was never won by the good one"
    assert any("outside" in each or "no f" in each or "link" in each for each in told), "nor lost"
    assert SECRET not in "".join(told)
    assert snapshot(root.parent / "outside") == before
    assert (root.parent / "secret.txt").read_text() == SECRET


def test_declarations() -> None:
    every = tools(Path("/x"), prefix="docs_")
    assert list(every) == ["docs_list_files", "docs_search_files", "docs_read_file", "docs_write_file"]
    assert every["docs_write_file"].spec.needs_approval
    assert all(every[name].spec.read_only for name in list(every)[:3])
    assert "write_file" not in tools(Path("/x"), read_only=True)
    assert all(a.is_same(b) for a, b in zip(file_tools("/x"), file_tools("/x"), strict=True))
    for options in ({"root": ""}, {"root": "a\0"}, {"root": "x", "max_file_bytes": 0}):
        with pytest.raises(InvalidToolError):
            file_tools(**options)  # pyright: ignore[reportArgumentType]


def test_a_root_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ToolRetry, match="can't be opened on this worker"):
        tools(tmp_path / "gone")["list_files"]()


def test_descriptors_are_given_back(root: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for path in ("a.txt", "in/b.md", "out/secret.txt", "sub/deep/../../../x", "nothing/x", "loop"):
        with suppress(ToolRetry):
            tools(root)["read_file"](path)
    tools(root)["search_files"]("x")
    assert len(os.listdir("/proc/self/fd")) == before
