"""Loading the user's App: what is found, and how each mistake is told."""

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import perdure
from perdure.app import App
from perdure.errors import ProjectLoadError
from perdure.project import load_app

APP = "from perdure import App\napp = App()\n"
_numbers = itertools.count()


@pytest.fixture
def name() -> Iterator[str]:
    """A module name of the test's own; what the test imports is forgotten."""
    path, modules = list(sys.path), set(sys.modules)
    yield f"users_app_{next(_numbers)}"
    sys.path[:] = path
    for module in set(sys.modules) - modules:
        if module.startswith("users_app_"):
            del sys.modules[module]


def write(folder: Path, path: str, body: str) -> None:
    file = folder / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(body)


def failure(reference: str | None, folder: Path) -> ProjectLoadError:
    with pytest.raises(ProjectLoadError) as caught:
        load_app(reference, folder)
    assert "\n" not in caught.value.message
    return caught.value


@pytest.mark.parametrize("layout", ["{}.py", "src/{}.py", "{}/__init__.py"])
def test_layouts(tmp_path: Path, name: str, layout: str) -> None:
    write(tmp_path, layout.format(name), APP)
    assert isinstance(load_app(f"{name}:app", tmp_path), App)


def test_a_module_of_a_package_and_an_attribute_of_an_object(tmp_path: Path, name: str) -> None:
    write(tmp_path, f"{name}/inner.py", f"{APP}class holder:\n    held = app\n")
    found = load_app(f"{name}.inner:holder.held", tmp_path)
    assert found is load_app(f"{name}.inner:app", tmp_path)
    assert sys.path.count(str(tmp_path)) == 1


def test_nothing_configured(tmp_path: Path) -> None:
    message = failure(None, tmp_path).message
    assert "--app" in message
    assert "PERDURE_APP" in message
    assert "[tool.perdure]" in message


@pytest.mark.parametrize("reference", ["app", "app:", ":app", "app.py:app:x", "src/app.py:app", "a b:c"])
def test_a_reference_that_is_none(tmp_path: Path, reference: str) -> None:
    assert "write `module:attribute`" in failure(reference, tmp_path).message


def test_no_such_module(tmp_path: Path, name: str) -> None:
    error = failure(f"{name}:app", tmp_path)
    assert error.message.startswith(f"There is no module {name!r} in {tmp_path}")
    assert "traceback" not in error.attributes


def test_no_such_module_in_a_package(tmp_path: Path, name: str) -> None:
    write(tmp_path, f"{name}/__init__.py", "")
    assert f"There is no module '{name}.nope'" in failure(f"{name}.nope:app", tmp_path).message


def test_a_module_that_imports_what_is_missing(tmp_path: Path, name: str) -> None:
    write(tmp_path, f"{name}.py", "import not_installed_anywhere")
    error = failure(f"{name}:app", tmp_path)
    assert "can't be imported" in error.message
    assert f"{name}.py:1: ModuleNotFoundError: No module named 'not_installed_anywhere'" in error.message


def test_a_package_that_imports_a_missing_module_of_its_own(tmp_path: Path, name: str) -> None:
    write(tmp_path, f"{name}/__init__.py", f"import {name}.gone")
    assert "can't be imported" in failure(f"{name}:app", tmp_path).message


def test_a_module_that_raised_shows_the_users_part_of_the_traceback(tmp_path: Path, name: str) -> None:
    write(tmp_path, f"{name}/__init__.py", "")
    write(tmp_path, f"{name}/app.py", f"import {name}.deep")
    write(tmp_path, f"{name}/deep.py", "def fail():\n    raise KeyError('x')\n\nfail()\n")
    error = failure(f"{name}.app:app", tmp_path)
    assert "deep.py:2: KeyError: 'x'" in error.message
    trace: str = error.attributes["traceback"]
    assert trace.count("  File ") == 3
    assert "importlib" not in trace
    assert "perdure/project.py" not in trace
    assert trace.endswith("KeyError: 'x'\n")


def test_causes_lose_our_frames_too(tmp_path: Path, name: str) -> None:
    body = (
        "try:\n    import users_app_gone\nexcept ImportError as error:\n    raise RuntimeError('no') from error\n"
    )
    write(tmp_path, f"{name}.py", body)
    trace: str = failure(f"{name}:app", tmp_path).attributes["traceback"]
    assert "direct cause" in trace
    assert "importlib" not in trace


def test_a_mistake_that_perdure_found_points_at_the_users_line(tmp_path: Path, name: str) -> None:
    write(tmp_path, f"{name}.py", "from perdure import App\n\napp = App(workflows=[int])\n")
    error = failure(f"{name}:app", tmp_path)
    assert f"{name}.py:3: <class 'int'> is no workflow" in error.message
    assert str(Path(perdure.__file__).parent) not in error.attributes["traceback"]


def test_a_syntax_error_shows_file_and_line(tmp_path: Path, name: str) -> None:
    write(tmp_path, f"{name}.py", "x = 1\ny = = 2\n")
    error = failure(f"{name}:app", tmp_path)
    assert f"{tmp_path / name}.py:2: SyntaxError: invalid syntax" in error.message
    assert "y = = 2" in error.attributes["traceback"]


def test_a_module_that_exits(tmp_path: Path, name: str) -> None:
    write(tmp_path, f"{name}.py", "import sys\nsys.exit(3)\n")
    assert "it called sys.exit()" in failure(f"{name}:app", tmp_path).message


def test_a_missing_attribute_suggests(tmp_path: Path, name: str) -> None:
    write(tmp_path, f"{name}.py", "from perdure import App\nagents = App()\n")
    error = failure(f"{name}:app", tmp_path)
    assert "has no 'app'. Its App is 'agents'." in error.message
    assert f"{name}.py" in error.message


def test_a_missing_attribute_with_many_apps_or_none(tmp_path: Path, name: str) -> None:
    write(tmp_path, f"{name}.py", "from perdure import App\none = App()\ntwo = App()\n")
    write(tmp_path, f"{name}_none.py", "apple = 1\n")
    assert "Its Apps: one, two." in failure(f"{name}:app", tmp_path).message
    assert "Did you mean 'apple'?" in failure(f"{name}_none:appl", tmp_path).message


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("app = 3", "is a int, not a perdure App."),
        ("def app(): ...", "is a function, not a perdure App. Call it in the module"),
        ("from perdure import App as app", "is the class App, not a perdure App. Call it"),
    ],
)
def test_an_attribute_that_is_no_app(tmp_path: Path, name: str, body: str, said: str) -> None:
    write(tmp_path, f"{name}.py", body)
    assert said in failure(f"{name}:app", tmp_path).message
