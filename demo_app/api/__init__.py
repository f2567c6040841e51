"""The same endpoints twice: on the sync engine in threads, and on the async engine on the event loop."""
