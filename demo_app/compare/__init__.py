"""Every mistake measured against its correction, under the same load: ``python -m demo_app compare``."""
