"""The study's requests through a real server, `transformers serve` on the embedded model, and in this process."""

import pytest
from served import MODEL, needs_serving, serving

from perg_utils.core.loading import load_profile
from perg_utils.core.workspace import Workspace
from perg_utils.dataset import preferences
from perg_utils.dataset import questions as curation
from perg_utils.inference import run as inference

SAME = ["example_id", "preference_id", "method", "setting", "response", "stages", "status", "finish_reason", "fallback"]

pytestmark = needs_serving


@pytest.fixture(scope="module", params=[False, True], ids=["in batches of one", "with continuous batching"])
def server(request, tmp_path_factory):
    log = tmp_path_factory.mktemp("serve") / "log.txt"
    # The cache of a CPU server would otherwise take most of the memory.
    options = ["--continuous-batching", "--cb-num-blocks", "64", "--cb-max-batch-tokens", "512"]
    with serving(log, *(options if request.param else [])) as url:
        yield url
        assert f"CB: {request.param}" in log.read_text(), "the server did what it was started for"


def responses(tmp_path, name, model):
    profile = load_profile("demo", ["data.limit=3", f"models=[{{name: S, model: {MODEL}, {model}}}]"])
    workspace = Workspace(tmp_path / name, tmp_path / name)
    bank = preferences.load_bank()
    workspace.write("preferences", bank)
    workspace.write("examples", preferences.assign(curation.load_examples(profile.data, profile.seed), bank))
    return inference.run(profile, "S", workspace)


def test_a_served_model_gives_the_very_replies_of_the_same_model_in_this_process(server, tmp_path):
    served = responses(tmp_path, "served", f"engine: api, base_url: '{server}', concurrency: 8")
    here = responses(tmp_path, "here", "dtype: float32")
    assert len(here) == 9 * (1 + sum(map(len, load_profile("demo").grid.values()))), "every method in every setting"
    assert served["response"].notna().all() and here["response"].nunique() > 30
    different = served[SAME].astype(str).compare(here[SAME].astype(str))
    assert different.empty, different.to_string()
    assert served["prompt_tokens"].tolist() == here["prompt_tokens"].tolist(), "the same chat template, once"
    assert not set(served["key"]) & set(here["key"]), "other engines, other replies"
