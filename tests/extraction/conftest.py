"""One short training of the fine-tuned layer, which the tests of its modules share."""

import shutil

import pytest
from tiny_bases import GOODS, SMALLEST, asking

from perg_utils.dataset import invented_world as world
from perg_utils.extraction.finetuned import training
from perg_utils.extraction.finetuned.corpus import Corpus
from perg_utils.extraction.finetuned.scoring import Scorer


@pytest.fixture(scope="session")
def few_checks():
    """An eighth of the samples that decide when training stops, so that tests are quick."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "CHECKED", 110)
        yield


@pytest.fixture(scope="session")
def options():
    return world.questions()["options"].tolist()[::5]


@pytest.fixture(scope="session")
def short(tmp_path_factory, options, few_checks):
    """A short training on a copy of the smallest embedded model: config, adapter's folder, what it came to."""
    room = tmp_path_factory.mktemp("short")
    config = asking(shutil.copytree(SMALLEST, room / "base"), samples=3840, learning_rate=0.01)
    return config, room / "adapter", training.train(config, options, room / "adapter", seed=7)


@pytest.fixture(scope="session")
def scorer(short):
    return Scorer(short[0], short[1])


@pytest.fixture
def adapter(short, tmp_path):
    """A copy of the adapter's folder to be spoilt."""
    return shutil.copytree(short[1], tmp_path / "adapter")


@pytest.fixture(scope="session")
def cases(options):
    made = Corpus(options, 11).take("test", 61)
    long = [(" ".join(["the answer is not salt"] * n) + ".", tuple(GOODS)) for n in (1, 20, 45)]
    return [(s.response, s.options) for s in made] + long
