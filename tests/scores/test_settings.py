"""Settings of a fit and the sizes that follow from them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prngeo.errors import UsageError
from prngeo.models.card import RefinerCard
from prngeo.refine.network import LOGIT_LIMIT
from prngeo.scores.scene import LIMIT
from prngeo.scores.settings import Settings, parse_validation, sizes

sides = st.integers(1, 5000)


def test_logits_are_clamped_as_refiners_do():
    assert LIMIT == LOGIT_LIMIT


@given(
    shapes=st.lists(st.tuples(sides, sides), min_size=1, max_size=4),
    variant=st.sampled_from(["fast", "paper"]),
    told=st.sampled_from([(None, None), (192, 64), (128, 128), (640, 64), (512, 256)]),
)
def test_chosen_sizes_suit_every_refiner(shapes, variant, told):
    chosen = sizes(Settings(variant=variant, window=told[0], patch=told[1]), shapes)
    RefinerCard(
        variant=variant,
        window=chosen.window,
        overlap=chosen.overlap,
        reduction=chosen.reduction,
        width=chosen.width,
        patch=chosen.patch,
    )
    assert told[0] or chosen.window == 1024 or chosen.window >= max(map(max, shapes))
    assert chosen.window % chosen.patch == 0
    if variant == "paper":  # patches of all windows lie on one grid
        assert (chosen.window - chosen.overlap) % chosen.patch == 0


def test_what_is_told_is_taken():
    chosen = sizes(Settings(window=256, patch=64, reduction=2), [(5000, 5000)])
    assert (chosen.window, chosen.patch, chosen.reduction, chosen.overlap) == (256, 64, 2, 64)


@pytest.mark.parametrize(("told", "side", "used", "width"), [
    (None, 64, 1, 16), (None, 100, 2, 8), (None, 2000, 2, 8), (1, 2000, 1, 16), (4, 2000, 4, 16)
])  # fmt: skip
def test_half_the_resolution_with_half_the_channels_is_the_default_where_the_window_allows(told, side, used, width):
    chosen = sizes(Settings(reduction=told), [(side, side)])
    assert (chosen.reduction, chosen.width) == (used, width)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"variant": "slow"}, "--variant is one of fast, paper"),
        ({"device": "tpu"}, "--device is one of"),
        ({"window": 100}, "--window is a multiple of 64"),
        ({"window": 8192}, "--window is a multiple of 64"),
        ({"reduction": 3}, "--reduction is 1, 2 or 4"),
        ({"patch": 12}, "--patch is a multiple of 8"),
        ({"patch": 48, "window": 64}, "--patch 48 does not divide --window 64"),
        ({"steps": 0}, "--steps is at least 1"),
        ({"pseudo_weight": 1.5}, "--pseudo-weight is a share from 0 to 1, got 1.5"),
        ({"pseudo_weight": -0.1}, "--pseudo-weight is a share from 0 to 1"),
        ({"seed": -1}, "--seed is a whole number from 0 to"),
        ({"seed": 2**32}, "--seed is a whole number from 0 to"),
        ({"validation": 0.0}, "--validation is the share"),
        ({"validation": 0.6}, "--validation is the share"),
        ({"validation": 1}, "--validation is the share"),
        ({"validation": "east"}, "--validation is a share or a tuple of names"),
        ({"validation": ["east"]}, "--validation is a share or a tuple of names"),
    ],
)
def test_wrong_settings_are_refused(values, message):
    with pytest.raises(UsageError, match=message):
        Settings(**values)


def test_a_patch_that_does_not_divide_the_chosen_window_is_refused():
    with pytest.raises(UsageError, match="--patch 48 does not divide the window of 64"):
        sizes(Settings(patch=48), [(40, 40)])


def test_validation_is_a_share_or_names():
    assert parse_validation("0.3") == 0.3
    assert parse_validation("east*, a7") == ("east*", "a7")
    with pytest.raises(UsageError, match="--validation is empty"):
        parse_validation(" ,")
