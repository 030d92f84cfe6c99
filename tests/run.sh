#!/usr/bin/env bash
# All checks: lint, format, types, tests. Makes its environment once. Arguments go to pytest, e.g. -k journal.
# Tests run two at a time, those of one file in one process; `-n 0` runs all one by one, `-n 4` four at a time.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../.environment.sh"
environment test
cd "$ROOT"
"$PYTHON" -m ruff check .
"$PYTHON" -m ruff format --check .
"$PYTHON" -m mypy
# One thread each: more would fight for the same cores.
export OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false
exec "$PYTHON" -m pytest -n 2 --dist loadfile --no-loadscope-reorder "$@"
