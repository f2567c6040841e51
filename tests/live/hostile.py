"""What would run as markup if anything took it for that."""

HOSTILE = "<img src=x onerror=window.pwned=1>"
