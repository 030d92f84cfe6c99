import json
import pkgutil
import subprocess
import sys

import perg_utils

MODULES = sorted(
    name
    for _, name, _ in pkgutil.walk_packages(perg_utils.__path__, "perg_utils.")
    if name != "perg_utils.__main__"  # imported too, below
)

#: Imports modules one by one and tells what else happened: sockets, processes, files written, global state changed.
#: Other people's packages come first: torch tries out the temporary folder, urllib3 binds to the loopback address.
#: Even they connect to nothing.
PROBE = """
import importlib, json, logging, os, random, signal, sys

happened, ours = [], False
SOCKETS = ("socket.connect", "socket.getaddrinfo", "socket.sendto")
OTHERS = ("socket.bind", "subprocess.Popen", "os.system", "os.mkdir", "os.remove", "os.rename", "os.fork",
          "os.posix_spawn")

def watch(event, arguments):
    if event in SOCKETS or (ours and event in OTHERS):
        happened.append([event, repr(arguments)[:200]])
        raise PermissionError(f"blocked: {event} {arguments!r:.200}")
    if ours and event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
        happened.append([event, repr(arguments)[:200]])

def state():
    return [random.getstate(), dict(os.environ), logging.getLogger().handlers[:], os.getcwd(), sys.excepthook,
            [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]]

sys.addaudithook(watch)
for name in json.loads(sys.argv[1]):
    importlib.import_module(name)
ours, before = True, state()
for name in json.loads(sys.argv[2]):
    importlib.import_module(name)
changed = [i for i, (old, new) in enumerate(zip(before, state())) if old != new]
print(json.dumps({"happened": happened, "changed": changed, "loaded": sorted(sys.modules)}))
"""


def probe(modules, folder, first=()):
    """Import `modules` (after `first`) in a fresh interpreter with an empty environment, in an empty folder."""
    done = subprocess.run(
        [sys.executable, "-B", "-c", PROBE, json.dumps(first), json.dumps(modules)],
        env={},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout)


def test_importing_every_module_does_nothing_else(tmp_path):
    assert "perg_utils.run.pipeline" in MODULES
    assert "perg_utils.engines.journal" in MODULES
    told = probe([*MODULES, "perg_utils.__main__"], tmp_path, first=["torch", "seaborn", "papermill"])
    assert told["happened"] == []
    assert told["changed"] == []
    assert list(tmp_path.iterdir()) == []


def test_the_command_line_loads_no_heavy_package(tmp_path):
    loaded = probe(["perg_utils.__main__"], tmp_path)["loaded"]
    assert not {"torch", "transformers", "datasets", "openai", "matplotlib"} & set(loaded)
