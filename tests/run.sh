#!/usr/bin/env bash
# All checks: lint, format, types, tests. Makes its environment once. Arguments go to pytest, e.g. -k journal.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../.environment.sh"
environment test
cd "$ROOT"
"$PYTHON" -m ruff check .
"$PYTHON" -m ruff format --check .
"$PYTHON" -m mypy
exec "$PYTHON" -m pytest "$@"
