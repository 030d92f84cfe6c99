import pytest

from perg_utils.core.loading import load_profile
from perg_utils.core.profile import DecodingConfig, ModelConfig, ProfileError
from perg_utils.core.schema import Method
from perg_utils.inference import requests
from perg_utils.inference.methods import METHODS
from perg_utils.inference.plan import plan

PLAIN, THINKING = (ModelConfig(name="m", model="m", thinking=thinking) for thinking in (None, True))


def test_limits_are_by_stage_and_thinking_models_have_their_own():
    decoding = DecodingConfig(max_new_tokens=5, max_new_tokens_second_stage=6, max_new_tokens_thinking=7)
    assert [requests.limit(PLAIN, decoding, stage, Method.SELF_CRITIC) for stage in (1, 2)] == [5, 6]
    assert [requests.limit(THINKING, decoding, stage, Method.COT) for stage in (1, 2)] == [7, 7]


def test_a_method_may_have_its_own_limit_and_drafts_keep_that_of_the_method_they_are_shared_with():
    decoding = DecodingConfig(
        max_new_tokens=5, max_new_tokens_by_method={Method.COT: 50, Method.PREF_ALIGNER: 60, Method.ZERO_SHOT: 8}
    )
    assert requests.limit(PLAIN, decoding, 1, Method.COT) == 50
    assert requests.limit(THINKING, decoding, 1, Method.COT) == 50
    assert [requests.limit(PLAIN, decoding, stage, Method.PREF_ALIGNER) for stage in (1, 2)] == [5, 60]
    assert (
        requests.limit(PLAIN, decoding, 1, Method.SELF_CRITIC)
        == requests.limit(PLAIN, decoding, 1, Method.ZERO_SHOT)
        == 8
    )


def test_limits_of_methods_can_be_set_and_change_no_other_request():
    plain, longer = (
        load_profile("demo", ["data.limit=5", *more]) for more in ([], ["decoding.max_new_tokens_by_method={cot: 99}"])
    )
    before, after = (plan(profile, "S") for profile in (plain, longer))
    assert after.requests == before.requests
    cot = 15  # every question in the one setting that asks cot
    assert after.completion_tokens - before.completion_tokens == cot * (99 - 64) // 2
    with pytest.raises(ProfileError, match="max_new_tokens_by_method"):
        load_profile("demo", ["decoding.max_new_tokens_by_method={cott: 99}"])


def test_every_two_stage_method_has_its_drafts_from_a_one_stage_method():
    assert set(requests.DRAFTS) == {Method.SELF_CRITIC, Method.PREF_ALIGNER}
    assert all(METHODS[draft] and draft not in requests.DRAFTS for draft in requests.DRAFTS.values())
