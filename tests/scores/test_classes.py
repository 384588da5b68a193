"""Names and values of classes."""

import pytest

from prngeo.errors import UsageError
from prngeo.scores.classes import Classes, choose_classes


@pytest.mark.parametrize(
    ("told", "names", "guess", "expected"),
    [
        (None, [None], None, Classes(("objects",))),
        (None, [None], "roads", Classes(("roads",))),
        ("water", [None], "roads", Classes(("water",))),
        ("water=5", [None], None, Classes(("water",), (5,))),
        (None, [None, None], None, Classes(("class_1", "class_2"), (1, 2))),
        (None, ["tree/bush", "road"], None, Classes(("tree_bush", "road"), (1, 2))),
        (None, ["a/b", "A_b"], None, Classes(("class_1", "class_2"), (1, 2))),
        (None, ["/", "road"], None, Classes(("class_1", "class_2"), (1, 2))),
        (None, [None], "../up", Classes(("up",))),
        (None, ["same", "same"], None, Classes(("class_1", "class_2"), (1, 2))),
        ("roads, water", [None, None], None, Classes(("roads", "water"), (1, 2))),
        ("roads=4,water=0", [None, None], None, Classes(("roads", "water"), (4, 0))),
    ],
)
def test_bands_get_names_and_values(told, names, guess, expected):
    assert choose_classes(told, names, guess) == expected


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ("roads", "names 1, but the scores have 2 bands"),
        ("a,b,c", "names 3, but the scores have 2 bands"),
        ("a,a", "every class needs a name of its own"),
        ("a,A", "every class needs a name of its own"),
        ("a=²,b=1", "a whole number from 0 to 254, got '²'"),
        ("a,", "every class needs a name of its own"),
        ("a=1,b=1", "every class needs a value of its own"),
        ("a=1,b=255", "a whole number from 0 to 254, got '255'"),
        ("a=x,b=1", "a whole number from 0 to 254, got 'x'"),
    ],
)
def test_what_is_not_written_so_is_refused(told, message):
    with pytest.raises(UsageError, match=message):
        choose_classes(told, [None, None], None)
