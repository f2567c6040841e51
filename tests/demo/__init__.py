"""The demo app: the shop, its settings, its database server, its traffic and its command."""
