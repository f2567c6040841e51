"""The bare app in a second process: what it seems to add is the error of the method."""

from benchmarks.variants.bare import instrument, seen

__all__ = ["TITLE", "instrument", "seen"]

TITLE = "bare app, a second time (the method's own error)"
