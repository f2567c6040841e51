"""``python -m dbwatch.cli`` does what ``dbwatch`` does."""

from dbwatch.cli import main

main()
