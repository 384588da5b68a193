"""Numbers as people read them."""

import pytest

from prngeo.cli.units import area, duration, size


@pytest.mark.parametrize(
    ("m2", "text"), [(0, "0 m2"), (9999, "9,999 m2"), (12_345, "1.23 ha"), (3e6, "3.00 km2"), (2.5e9, "2,500.00 km2")]
)
def test_area(m2, text):
    assert area(m2) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (9.9, "9.9 s"), (99, "99 s"), (120, "2 min"), (7260, "2 h 01 min")]
)
def test_duration(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0.0 kB"), (9_812, "9.6 kB"), (1 << 20, "1.0 MB"), (3 << 29, "1.50 GB")]
)
def test_size(count, text):
    assert size(count) == text
