"""What is inside a released file: printed options and published letters."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perg_utils.published.layouts import parse_options, read_letter


@given(st.lists(st.text(max_size=30), min_size=2, max_size=26))
def test_options_are_read_back_from_both_printed_forms(options):
    # NumPy is made not to shorten; line width is left as it is, so long ones break.
    assert parse_options(str(options)) == tuple(options)
    assert parse_options(str(np.array(options, dtype=object))) == tuple(options)


@pytest.mark.parametrize("text", ["", "red, blue", "['red'", "['red' blue]", "['only']", "[1, 2]", "nan"])
def test_what_is_no_list_of_texts_is_refused(text):
    with pytest.raises(ValueError, match="option"):
        parse_options(text)


@pytest.mark.parametrize(
    ("text", "count", "index", "how", "status"),
    [
        ("B", 4, 1, "published", "ok"),
        ("E", 4, None, "published_beyond_options", "unparsable"),
        ("E", 5, 4, "published", "ok"),
        ("-1", 4, None, "published_none", "unparsable"),
        ("X", 4, None, "published_x", "unparsable"),
        ("Y", 4, None, "published_y", "refused"),
        ("Z", 4, None, "published_z", "refused"),
        ("X", 26, 23, "published", "ok"),
        ("A, B, D", 4, None, "published_several", "unparsable"),
        ("A and D", 4, None, "published_several", "unparsable"),
        ("A, B, and C", 4, None, "published_several", "unparsable"),
        ("None of the above", 4, None, "published_phrase", "unparsable"),
        ("", 4, None, "published_missing", "unparsable"),
    ],
)
def test_published_answers_are_read_as_what_they_are(text, count, index, how, status):
    found = read_letter(text, count)
    assert (found.index, found.how, str(found.status)) == (index, how, status)
