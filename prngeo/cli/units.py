"""Numbers as people read them."""

from __future__ import annotations


def area(square_metres: float) -> str:
    """An area in m2, ha or km2, as fits."""
    for unit, factor in (("km2", 1e6), ("ha", 1e4)):
        if square_metres >= factor:
            return f"{square_metres / factor:,.2f} {unit}"
    return f"{square_metres:,.0f} m2"


def duration(seconds: float) -> str:
    """A duration in seconds, minutes or hours, as fits."""
    if seconds < 99.5:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


def size(count: float) -> str:
    """Bytes in kB, MB or GB, of 1024 each as `--max-memory` counts them."""
    if count < 2**20:
        return f"{count / 2**10:.1f} kB"
    return f"{count / 2**30:.2f} GB" if count >= 2**30 else f"{count / 2**20:.1f} MB"
