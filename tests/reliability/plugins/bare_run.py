"""Nothing but the installed SQLAlchemy, so that both runs test the same code: its tests would prefer their own copy."""

import sqlalchemy  # noqa: F401
