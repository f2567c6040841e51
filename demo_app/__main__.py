"""``python -m demo_app``."""

from demo_app.command import main

main(prog_name="python -m demo_app")
