"""How fast a real model answers the study's own mix of arms on this machine's processor, against llama.cpp's server.

    python tests/bench/real_models.py MODEL.gguf [--sources FOLDER] [--questions 7] [--limit 320]
        [--llama LLAMA-SERVER --slots 16 32] [--ways alone batches ours llama]

The prompts are those of the profile `laptop` (plain answers and zero_shot in every setting) for so many questions a
source, of FOLDER (Parquet files in the hub's schema) or of the invented world. The ways, on the same prompts, in turn:

alone     one prompt at a time (on every n-th question, see --few)
batches   `batching: static`: batches of like length, kept together until the longest reply has ended
ours      what the engine does: beginnings read once, rows leave and join
llama     llama.cpp's server through the API engine, with so many slots: requests in the engine's order (those that
          begin alike one after the other) and in a shuffled one

Rows and tokens are given a second of the clock and a second of the processor (all cores together, the server's for
llama). `same`: share of the texts that are those of `ours`; in float32 all of alone and batches must be. A machine that
does other work gives other numbers: compare within one run. Build llama.cpp natively (-DGGML_NATIVE=ON): a prebuilt one
may use no AVX2 and be ten times slower; its log says at the start what it uses (system_info: AVX2 = 1).
"""

from __future__ import annotations

import argparse
import random
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

from perg_utils.core.loading import load_profile  # noqa: E402
from perg_utils.core.profile import ModelConfig  # noqa: E402
from perg_utils.core.schema import Method  # noqa: E402
from perg_utils.dataset.preferences import assign, load_bank  # noqa: E402
from perg_utils.dataset.questions import load_examples  # noqa: E402
from perg_utils.engines.api.engine import ApiEngine  # noqa: E402
from perg_utils.engines.base import Engine, Reply, Request  # noqa: E402
from perg_utils.engines.local.engine import TransformersEngine  # noqa: E402
from perg_utils.inference.methods import Chat  # noqa: E402
from perg_utils.inference.requests import Material, request, rows, settings  # noqa: E402
from perg_utils.prompts.sets import load_prompts  # noqa: E402

Replies = dict[int, Reply]


def requests_of(sources: str | None, questions: int, limit: int) -> list[Request]:
    """The requests of all one-stage arms, as the study makes them: method by method, setting by setting."""
    where = ["data.origin=embedded"] if sources is None else ["data.origin=local", f"data.path={sources}"]
    profile = load_profile("laptop", [*where, f"data.limit={questions}", "data.allow_incomplete=true"])
    bank, model = load_bank(), profile.models[0]
    material = Material(assign(load_examples(profile.data, profile.seed), bank), bank, load_prompts(profile.prompts))
    decoding = profile.decoding.model_copy(update={"max_new_tokens": limit})
    out = []
    for method, chosen in settings(profile, model).items():
        if method != Method.PREF_ALIGNER:
            for row in rows(profile, method, chosen, material):
                chat = Chat(material.prompts.messages(method, **row.task.variables()))
                out.append(request(chat, model, decoding, 1, method))
    return out


def timed(engine: Engine, asked: Sequence[Request], process: psutil.Process) -> tuple[Replies, float, float]:
    """Return the replies, and the seconds of the clock and of `process` that they took; weights are loaded before."""
    dict(engine.generate(asked[:1]))
    start, before = time.perf_counter(), sum(process.cpu_times()[:2])
    got = dict(engine.generate(asked))
    return got, time.perf_counter() - start, sum(process.cpu_times()[:2]) - before


def show(name: str, got: Replies, clock: float, cpu: float, known: Replies) -> None:
    written = sum(reply.completion_tokens or 0 for reply in got.values())
    read = sum(reply.prompt_tokens or 0 for reply in got.values())
    shared = [index for index in got if index in known]
    same = sum(got[index].text == known[index].text for index in shared)
    alike = f"{same} of {len(shared)}" if shared else "–"
    print(
        f"| {name} | {len(got)} | {read:,} | {written:,} | {len(got) / clock:.2f} | {len(got) / cpu:.2f} | "
        f"{written / clock:.0f} | {written / cpu:.0f} | {alike} |",
        flush=True,
    )


def serve(binary: str, model: str, slots: int) -> tuple[subprocess.Popen[bytes], str]:
    """Start llama.cpp's server with all cores and return it and its address once it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    cores = str(len(psutil.Process().cpu_affinity() or [0]))
    command = [binary, "-m", model, "-np", str(slots), "-c", str(2048 * slots), "-t", cores, "-tb", cores]
    server = subprocess.Popen([*command, "--port", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(600):
        if server.poll() is not None:
            sys.exit(f"{binary} ended at once (status {server.returncode}); -4: an instruction that is not had here")
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health")
            return server, f"http://127.0.0.1:{port}/v1"
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.2)
    sys.exit(f"{binary} did not answer within two minutes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--sources")
    parser.add_argument("--questions", type=int, default=7)
    parser.add_argument("--limit", type=int, default=320)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--few", type=int, default=10, help="every n-th request is asked alone")
    parser.add_argument("--llama")
    parser.add_argument("--slots", type=int, nargs="+", default=[16])
    parser.add_argument("--ways", nargs="+", default=["ours", "batches", "alone", "llama"])
    args = parser.parse_args()
    asked = requests_of(args.sources, args.questions, args.limit)
    config = ModelConfig(name="bench", model=args.model, dtype=args.dtype)
    me, ours = psutil.Process(), TransformersEngine(config)
    print(f"{Path(args.model).name} as {ours.config.dtype}, {len(asked)} requests, up to {args.limit} new tokens\n")
    heads = ("way", "rows", "prompt tokens", "new tokens", "rows/s", "rows/CPU s", "new/s", "new/CPU s", "same")
    print(f"| {' | '.join(heads)} |\n|{' --- |' * len(heads)}", flush=True)
    known: Replies = {}
    if "ours" in args.ways:
        known, *spent = timed(ours, asked, me)
        show("ours", known, *spent, {})
    if "batches" in args.ways:
        engine = TransformersEngine(config.model_copy(update={"batching": "static"}))
        show("batches", *timed(engine, asked, me), known)
    if "alone" in args.ways:
        engine = TransformersEngine(config.model_copy(update={"batching": "static", "batch_size": 1}))
        chosen = list(range(0, len(asked), args.few))
        got, *spent = timed(engine, [asked[index] for index in chosen], me)
        show("alone", {chosen[index]: reply for index, reply in got.items()}, *spent, known)
    for slots in args.slots if args.llama and "llama" in args.ways else []:
        for order in ("together", "shuffled"):
            server, url = serve(args.llama, args.model, slots)
            engine = ApiEngine(ModelConfig(name="l", engine="api", model="m", base_url=url, concurrency=slots))
            places = list(range(len(asked)))
            if order == "shuffled":
                random.Random(0).shuffle(places)
                engine.in_order = lambda some: list(range(len(some)))  # type: ignore[method-assign]
            got, *spent = timed(engine, [asked[place] for place in places], psutil.Process(server.pid))
            show(f"llama, {slots} slots, {order}", {places[i]: reply for i, reply in got.items()}, *spent, known)
            server.kill()


if __name__ == "__main__":
    main()
