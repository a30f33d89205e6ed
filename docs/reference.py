"""Writes docs/reference from the code: `python -m docs.reference`. A tool of this repository.

Everything comes from the command line's own help and from the sources of the modules, so that it is the same on
each machine; a test says when a page is stale.
"""

import ast
import inspect
import pkgutil
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, get_args

import click
from pydantic import BaseModel

import perdure.contracts
from perdure import errors
from perdure.cli import cli
from perdure.cli._table import COMMANDS
from perdure.contracts._base import Contract
from perdure.settings import Settings

FOLDER = Path(__file__).parent / "reference"
_NOTE = "<!-- Written by `python -m docs.reference`; change the code instead. -->\n"
_WIDTH = 100
_INTERNAL = {"project_dir"}


class Field(NamedTuple):
    """A field of a class, as its source has it."""

    name: str
    type: str
    default: str
    text: str


def pages() -> dict[str, str]:
    """Return the text of each page by its file name."""
    made = {"cli": _cli(), "settings": _settings(), "errors": _errors(), "contracts": _contracts()}
    return {f"{name}.md": text.rstrip("\n") + "\n" for name, text in made.items()}


def _cli() -> str:
    parts = [f"# Command line\n\n{_NOTE}\nWhat `--help` says. Exit codes: 0 ok, 1 the run failed, 2 bad input, "]
    parts.append(
        "3 Temporal can't be reached or there is no answer yet, 4 the project is at fault, 130 interrupted.\n"
    )
    for section, entries in COMMANDS.items():
        parts.append(f"\n## {section}\n")
        for name in entries:
            command = cli.get_command(click.Context(cli), name)
            assert command is not None
            parts.extend(_help(f"perdure {name}", command))
    return "".join(parts)


def _help(path: str, command: click.Command) -> Iterator[str]:
    context = click.Context(
        command,
        info_name=path,
        terminal_width=_WIDTH,
        max_content_width=_WIDTH,
        help_option_names=["-h", "--help"],
    )
    yield f"\n### {path}\n\n```text\n{command.get_help(context)}\n```\n"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from _help(f"{path} {name}", inner)


def _settings() -> str:
    text = f"# Settings\n\n{_NOTE}\nA flag goes over the environment, that over `[tool.perdure]`, that over the "
    text += "default. The [guide](../guide.md#settings) has them by theme.\n"
    aliases = {name: field.alias or name for name, field in Settings.model_fields.items()}
    tables: list[type[BaseModel]] = []
    for field in _fields(Settings):
        if field.name not in aliases or field.name in _INTERNAL:
            continue
        key = aliases[field.name]
        text += f"\n## `{key}`\n\n"
        found = _tables(Settings.model_fields[field.name].annotation)
        tables += [each for each in found if each not in tables]
        where = "a table of `[tool.perdure]`" if found else f"`PERDURE_{key.upper()}`"
        text += f"{where} · type `{_short(field.type)}` · default {_value(field.default)}\n"
        text += f"\n{field.text}\n" if field.text else ""
    for table in tables:
        text += f"\n## {table.__name__}\n\n{_doc(table)}\n\n{_table(table)}"
    return text


def _tables(annotation: Any) -> list[type[BaseModel]]:
    """Return the tables that a type is made of."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation] if annotation.__module__ == Settings.__module__ else []
    return [each for argument in get_args(annotation) for each in _tables(argument)]


def _errors() -> str:
    text = (
        f"# Errors\n\n{_NOTE}\nEach crosses activities, workflows and clients under its name; `perdure.errors`.\n"
    )
    found = [each for each in vars(errors).values() if isinstance(each, type)]
    for each in found:
        if issubclass(each, errors.PerdureError):
            base = each.__mro__[1].__name__
            retried = "retryable" if each.is_retryable else "not retryable, unless it says otherwise"
            text += f"\n## {each.__name__}\n\n"
            text += f"{'The root' if each is errors.PerdureError else f'A `{base}`'}; {retried}.\n\n{_doc(each)}\n"
    return text


def _contracts() -> str:
    text = (
        f"# Contracts\n\n{_NOTE}\nWhat crosses a boundary, and so is in Event History. They change by addition, "
    )
    text += "with defaults that keep their meaning for ever.\n"
    for info in sorted(pkgutil.iter_modules(perdure.contracts.__path__), key=lambda each: each.name):
        module = import_module(f"perdure.contracts.{info.name}")
        classes = [each for each in vars(module).values() if _is_contract(each, module)]
        if classes and not info.name.startswith("_"):
            summary = (inspect.getdoc(module) or "").splitlines()[0]
            text += f"\n## perdure.contracts.{info.name}\n\n{summary}\n"
            text += "".join(f"\n### {each.__name__}\n\n{_doc(each)}\n\n{_table(each)}" for each in classes)
    return text


def _is_contract(found: object, module: ModuleType) -> bool:
    return isinstance(found, type) and issubclass(found, Contract) and found.__module__ == module.__name__


def _table(cls: type) -> str:
    rows = [f"| `{each.name}` | `{_cell(each.type)}` | {_cell(_value(each.default))} | {_cell(each.text)} |\n"
            for each in _fields(cls)]  # fmt: skip
    return "| field | type | default | |\n| --- | --- | --- | --- |\n" + "".join(rows) if rows else ""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _value(default: str) -> str:
    return f"`{_short(default)}`" if default else "none"


def _short(text: str) -> str:
    return text if len(text) <= _WIDTH else text[: _WIDTH - 1] + "…"


def _doc(cls: type) -> str:
    return inspect.cleandoc(cls.__doc__ or "").replace("Attributes:\n", "Attributes:\n\n")


def _fields(cls: type) -> list[Field]:
    """Return the fields of a class, those of its bases first."""
    found: dict[str, Field] = {}
    for each in reversed(cls.__mro__):
        if each.__module__.startswith("perdure."):
            found.update((field.name, field) for field in _own_fields(each))
    return list(found.values())


def _own_fields(cls: type) -> Iterator[Field]:
    body = _bodies(cls.__module__)[cls.__name__]
    for node, after in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id[0] != "_":
            text = (
                after.value.value if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) else ""
            )
            annotation = _plain(node.annotation)
            if not annotation.startswith("ClassVar") and node.target.id != "model_config":
                default = "" if node.value is None else ast.unparse(node.value)
                yield Field(node.target.id, annotation, default, inspect.cleandoc(str(text)))


def _plain(node: ast.expr) -> str:
    """Return the source of a type, without what validates it."""
    if (
        isinstance(node, ast.Subscript)
        and ast.unparse(node.value) == "Annotated"
        and isinstance(node.slice, ast.Tuple)
    ):
        return ast.unparse(node.slice.elts[0])
    return ast.unparse(node)


@cache
def _bodies(module: str) -> dict[str, list[ast.stmt]]:
    tree = ast.parse(inspect.getsource(import_module(module)))
    return {node.name: node.body for node in tree.body if isinstance(node, ast.ClassDef)}


def main() -> None:
    """Write the pages."""
    FOLDER.mkdir(exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
