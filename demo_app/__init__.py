"""A small shop on FastAPI and SQLAlchemy, watched by dbwatch, with its own PostgreSQL and its own traffic."""
