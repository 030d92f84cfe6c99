"""How long the `published` profile takes, and how much memory, on made-up releases of 425,272 and 1,701,088 rows.

`python tests/bench/bench_published.py [FOLDER] [--configurations 59,236]` writes scored files (59 configurations of
7,208 rows, and four times that), runs the whole profile on each by the command that a user types, and prints wall
seconds, CPU seconds and the peak memory of its largest process, beside a baseline: reading the same files with pandas
and nothing else. Not a test: shared machines are noisy, so compare the ratios.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from released import put, questions, scored  # noqa: E402

from perg_utils.published.files import METHODS, MODELS, SETTINGS  # noqa: E402

READ = """
import pandas, pathlib, sys
for path in pathlib.Path(sys.argv[1]).rglob("*.csv"):
    pandas.read_csv(path, dtype=str)
"""


def make(folder: Path, configurations: int) -> None:
    """Write `configurations` scored files below `folder`, under names that the manifest does not list."""
    data = questions()
    # Other names of the same models come last: their rows are read and found to be there already.
    first = {name: model for model, name in reversed(MODELS.items())}
    models = [*first.values(), *(name for name in MODELS if name not in first.values())]
    names = [(setting, method, model) for model in models for setting in SETTINGS for method in METHODS]
    for i, (setting, method, model) in enumerate(names[:configurations]):
        path = f"{setting}/{method}/full/{model}_7208_0_0-{method}-full_eval.csv"
        put(folder, path, scored(data, i, length=120))


def measured(command: list[str]) -> tuple[float, float, float]:
    """Run a command; return wall seconds, CPU seconds and the peak memory in GiB of its largest process."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, cwd=ROOT)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, cpu, after.ru_maxrss / 2**20  # the largest of all so far: run the small release first


def main() -> None:
    """Measure each release, the smaller first."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, help="where the releases go (default: a temporary folder)")
    parser.add_argument("--configurations", default="59,236")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as temporary:
        for configurations in sorted(map(int, arguments.configurations.split(","))):
            release, out = Path(temporary) / f"release{configurations}", Path(temporary) / f"out{configurations}"
            make(release, configurations)
            size = sum(path.stat().st_size for path in release.rglob("*.csv")) / 1e9
            print(f"\n{configurations * 7208:,} rows, {size:.1f} GB of CSV", flush=True)
            run = [str(ROOT / "run_all.sh"), "--profile", "published", "--out", str(out)]
            for name, command in {
                "baseline: pandas.read_csv alone": [sys.executable, "-c", READ, str(release)],
                "the profile": [*run, "--set", f"published_dir={release}"],
            }.items():
                wall, cpu, peak = measured(command)
                print(f"{name}: {wall:.0f} s wall, {cpu:.0f} s CPU, peak {peak:.1f} GiB", flush=True)


if __name__ == "__main__":
    main()
