"""Times that several sides must agree on. Both sides."""

from datetime import timedelta
from typing import Final

TASK_TIMEOUT: Final = timedelta(seconds=3)
"""How long a worker may take over one workflow task; a dead worker's is given to another after that."""


CLEAN_UP_TIMEOUT: Final = timedelta(minutes=5)
"""How long a cancelled workflow of the user's own may clean up; then whatever it awaits is cancelled again."""


def shared_time(timeout: timedelta, max_attempts: int) -> timedelta:
    """Return the time for all attempts at a shared call; who asks for it waits a minute longer."""
    return timeout * min(max_attempts, 5) + timedelta(minutes=2)
