"""Takes telemetry out of a worker's process: what a turn would cost if perdure had none.

Where nothing is traced or counted there is no interceptor, and the client has none either. What is left are the
notes that calls take for their span; in their place come functions that do nothing.
"""

from types import ModuleType
from typing import Final

from perdure.activities import models, tools

_CALLS: Final[tuple[tuple[ModuleType, str], ...]] = (
    (models, "note_prompt"),
    (models, "note_spec"),
    (tools, "note_arguments"),
    (tools, "note_spec"),
)


def _nothing(_: object) -> None: ...


def leave_telemetry_out() -> None:
    """Put functions that do nothing in the place of telemetry's, in this process."""
    for module, name in _CALLS:
        if not callable(getattr(module, name, None)):
            raise RuntimeError(
                f"{module.__name__} has no {name} any more: bench/untold.py leaves out what is not there"
            )
        setattr(module, name, _nothing)
