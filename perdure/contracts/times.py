"""Times that several sides must agree on. Both sides."""

from datetime import timedelta
from typing import Final

TASK_TIMEOUT: Final = timedelta(seconds=3)
"""How long a worker may take over one workflow task; a dead worker's is given to another after that."""
