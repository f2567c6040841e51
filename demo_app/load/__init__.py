"""Traffic for the shop by locust. It runs in a process of its own: locust replaces the standard library's sockets."""
