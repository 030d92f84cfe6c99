#!/usr/bin/env bash
# The whole study in one command: makes its environment once, then runs the notebooks of a profile in order.
#   ./run_all.sh                                  the demo: invented world, no network, about five minutes on two cores
#   ./run_all.sh --dry-run                        the plan: notebooks, requests, tokens; changes nothing
#   ./run_all.sh --profile NAME|FILE [--only STEP[,STEP]] [--set KEY=VALUE]... [--out DIR] [--force]
#   ./run_all.sh --cluster auto|ADDRESS|local     the same on many machines, with Ray: docs/cluster.md
#   ./run_all.sh --verify                         and then: are the tables the same as the committed ones? (status 1: no)
# A second call goes on where the first one ended. What this machine can run: .venv/bin/python -m perg_utils doctor
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/.environment.sh"
environment
exec "$PYTHON" -m perg_utils run "$@"
