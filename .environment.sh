# Sourced by run_all.sh and tests/run.sh: `environment [test]` sets PYTHON to an interpreter that has this checkout's
# package (with `test`: and its test tools). An active environment that has them is used as it is; else .venv is made
# from constraints.txt and reused, and brought up to date when constraints.txt or pyproject.toml change.

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)"

has_package() {  # $1 interpreter, $2 "test" or nothing
    "$1" -I - "$ROOT" "${2:-}" <<'PY' 2>/dev/null
import importlib.util, pathlib, sys

found = importlib.util.find_spec("perg_utils")
needed = ["jupyterlab", "openai", "papermill", "torch", "transformers"]
needed += ["hypothesis", "importlinter", "mypy", "pytest", "ruff", "xdist"] if sys.argv[2] else []
home = pathlib.Path(sys.argv[1], "perg_utils", "__init__.py")
sys.exit(not (found and pathlib.Path(found.origin).samefile(home) and all(map(importlib.util.find_spec, needed))))
PY
}

find_python() {  # a shim of that name may be there without a version behind it: ask each
    local name found
    for name in python3.11 python3.12 python3.13 python3.14 python3 python; do
        if "$name" -c 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null; then
            command -v "$name"
            return
        fi
    done
    found="$(python3 --version 2>/dev/null)"
    echo "error: found ${found:-no Python 3} on the PATH, but no Python 3.11, 3.12, 3.13 or 3.14 with the venv module;" >&2
    echo "install one (Debian, Ubuntu: apt install python3-venv) or activate an environment made from environment.yml" >&2
    return 1
}

environment() {
    local extra="${1:-}" stamp want active
    active="$(command -v python || true)"
    if [ -n "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ] && [ "${VIRTUAL_ENV:-}" != "$ROOT/.venv" ] && [ -n "$active" ] &&
        has_package "$active" "$extra"; then
        PYTHON="$active"
        return
    fi
    PYTHON="$ROOT/.venv/bin/python"
    stamp="$ROOT/.venv/installed${extra:+-$extra}"
    want="$ROOT $(cat "$ROOT/constraints.txt" "$ROOT/pyproject.toml" | cksum)"
    exec 9<"$ROOT"
    if command -v flock >/dev/null; then flock 9; fi  # a second call waits for the first one's installation
    # The environment for the tests will do for the study too.
    if { [ "$(cat "$stamp" 2>/dev/null)" != "$want" ] && [ "$(cat "$ROOT/.venv/installed-test" 2>/dev/null)" != "$want" ]; } ||
        ! has_package "$PYTHON" "$extra"; then
        make_environment "$extra" || return 1
        echo "$want" >"$stamp"  # written last: an installation that was cut off is done again
    fi
    exec 9<&-
}

make_environment() {
    local base
    # .venv cannot be moved: one made elsewhere, or cut off before it had pip, is made again.
    if ! "$PYTHON" -m pip --version >/dev/null 2>&1 || ! grep -qsF "$ROOT/.venv" "$ROOT/.venv/bin/pip"; then
        base="$(find_python)" || return 1
        echo "making .venv with $base" >&2
        "$base" -m venv --clear "$ROOT/.venv" || return 1
    fi
    rm -f "$ROOT"/.venv/installed*
    echo "installing the pinned packages into .venv (once; some minutes and 2 GB, more with a GPU build of torch)" >&2
    # setuptools warns about editable installations as such.
    (cd "$ROOT" && PYTHONWARNINGS=ignore::UserWarning "$PYTHON" -m pip install --quiet --disable-pip-version-check \
        -c constraints.txt -e ".${1:+[$1]}") || {
        echo "error: the installation failed (see above); run the same command again to go on" >&2
        return 1
    }
}
