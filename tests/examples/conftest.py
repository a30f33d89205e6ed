"""Makes the examples importable, as `perdure` does for the project that it runs."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "research"))
