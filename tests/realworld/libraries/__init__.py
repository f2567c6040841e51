"""Apps as the documentation of well-known libraries writes them, for :mod:`tests.realworld.library_trial`.

Each module has ``LIBRARY``, the name of the distribution; ``build(sync_url, async_url)``, which returns the app;
``visit(client, who)``, the requests of one visitor; and ``TRUE``, the findings that such an app deserves, or may.
"""
