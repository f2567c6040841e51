"""The guide: a page beside the app, on which a mistake is picked, and its correction after it."""

from demo_app.guide.act import Act
from demo_app.guide.server import Guide

__all__ = ["Act", "Guide"]
