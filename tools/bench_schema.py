"""Write docs/bench.schema.json from the models that the bench prints.

python tools/bench_schema.py
"""

from __future__ import annotations

import json
from pathlib import Path

from hyperline.runtime.bench import json_schema

SCHEMA = Path(__file__).resolve().parent.parent / "docs" / "bench.schema.json"


def main() -> None:
    """Write the file."""
    SCHEMA.write_text(json.dumps(json_schema(), indent=2) + "\n")


if __name__ == "__main__":
    main()
