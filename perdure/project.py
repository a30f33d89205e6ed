"""Load the user's `App` from `module:attribute`. Wiring; runs the user's module, nothing else.

A module that can't be found and a module that raised are different mistakes: the second is told with the
user's own traceback, without the frames of perdure and of the import machinery.
"""

import importlib
import re
import sys
from pathlib import Path
from traceback import FrameSummary, StackSummary, TracebackException
from types import ModuleType
from typing import Any

import perdure
from perdure.app import App
from perdure.errors import PerdureError, ProjectLoadError, suggest

_OURS = str(Path(perdure.__file__).parent)
_REFERENCE = re.compile(r"(?P<module>\w+(\.\w+)*):(?P<path>\w+(\.\w+)*)")


def load_app(reference: str | None, project_dir: Path) -> App:
    """Import the user's App.

    Args:
        reference: `module:attribute`, as in `my_agents.app:app`; None if the user configured none.
        project_dir: Goes on `sys.path`, and so does its `src/`.

    Returns:
        The App.

    Raises:
        ProjectLoadError: It can't be found or imported. If the module raised, `attributes["traceback"]` is
            the user's part of the traceback. Not retryable.
    """
    if not reference:
        raise ProjectLoadError(
            "No app is configured. Name it in one of three ways: `--app module:attribute`, the environment"
            ' variable PERDURE_APP, or `app = "module:attribute"` under [tool.perdure] in pyproject.toml.'
        )
    match = _REFERENCE.fullmatch(reference)
    if match is None:
        raise ProjectLoadError(
            f"{reference!r} doesn't say where the App is: write `module:attribute`, such as `app:app` for"
            " the variable `app` of app.py.",
            reference=reference,
        )
    _extend_path(project_dir)
    module = _import(match["module"], project_dir)
    return _find(module, match["path"])


def _extend_path(project_dir: Path) -> None:
    folders = [str(project_dir.absolute()), str((project_dir / "src").absolute())]
    missing = [each for each in folders if each not in sys.path and Path(each).is_dir()]
    sys.path[:0] = missing
    importlib.invalidate_caches()


def _import(name: str, project_dir: Path) -> ModuleType:
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        trace = _user_part(TracebackException.from_exception(error))
        if isinstance(error, ModuleNotFoundError) and not trace.stack and _is_within(error.name, name):
            raise ProjectLoadError(
                f"There is no module {error.name!r} in {project_dir} or its src folder, nor is one installed."
                f" The app is {name!r}: see --app, PERDURE_APP or [tool.perdure] app.",
                module=name,
            ) from None
        raise ProjectLoadError(
            f"The module {name!r} can't be imported: {_where(error, trace)}{_what(error, trace)}",
            module=name,
            traceback="".join(trace.format()),
        ) from error


def _is_within(missing: str | None, name: str) -> bool:
    """Tell whether the missing module is the one asked for, or a package that it lives in."""
    return missing is not None and f"{name}.".startswith(f"{missing}.")


def _user_part(trace: TracebackException) -> TracebackException:
    """Take our frames and the import machinery's out of `trace` and of what it was caused by."""
    trace.stack = StackSummary.from_list([frame for frame in trace.stack if _is_users(frame)])
    for other in (trace.__cause__, trace.__context__, *(trace.exceptions or ())):
        if other is not None:
            _user_part(other)
    return trace


def _is_users(frame: FrameSummary) -> bool:
    machinery = frame.filename.startswith("<frozen ") or frame.filename == importlib.__file__
    return not machinery and not Path(frame.filename).is_relative_to(_OURS)


def _where(error: BaseException, trace: TracebackException) -> str:
    if isinstance(error, SyntaxError):
        return f"{error.filename}:{error.lineno}: "
    if not trace.stack:
        return ""
    return f"{trace.stack[-1].filename}:{trace.stack[-1].lineno}: "


def _what(error: BaseException, trace: TracebackException) -> str:
    if isinstance(error, SystemExit):
        return "it called sys.exit(); keep that under `if __name__ == '__main__':`."
    if isinstance(error, PerdureError):
        return error.message
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error.msg}"
    return "".join(trace.format_exception_only()).strip().splitlines()[0]


def _find(module: ModuleType, path: str) -> App:
    found: Any = module
    for name in path.split("."):
        if not hasattr(found, name):
            raise ProjectLoadError(
                f"{_call(module)} has no {path!r}.{_suggest(module, path)}", module=module.__name__
            )
        found = getattr(found, name)
    if isinstance(found, App):
        return found
    hint = " Call it in the module: the attribute is to be an App." if callable(found) else ""
    kind = f"the class {found.__name__}" if isinstance(found, type) else f"a {type(found).__name__}"
    raise ProjectLoadError(
        f"{path!r} of {_call(module)} is {kind}, not a perdure App.{hint}", module=module.__name__
    )


def _call(module: ModuleType) -> str:
    return f"the module {module.__name__!r} ({getattr(module, '__file__', None) or 'a folder without code'})"


def _suggest(module: ModuleType, path: str) -> str:
    """Name the module's Apps, else the nearest of its names."""
    apps = [name for name, value in vars(module).items() if isinstance(value, App)]
    if apps:
        return f" Its App is {apps[0]!r}." if len(apps) == 1 else f" Its Apps: {', '.join(apps)}."
    return suggest(path, [name for name in vars(module) if not name.startswith("_")])
