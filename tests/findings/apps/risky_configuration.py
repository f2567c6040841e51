"""An engine whose settings will hurt later; nothing is wrong while it runs."""

from sqlalchemy import create_engine, text

from tests.findings.stage import Stage


def faulty_sync(stage: Stage) -> None:
    app, url = stage.app, stage.url
    engine = create_engine(url, pool_size=5, pool_timeout=60)  # guilty

    @app.get("/health-of-the-database")
    def health() -> str:
        with engine.connect() as connection:
            return str(connection.scalar(text("SELECT 'fine'")))

    stage.at_end.append(engine.dispose)


def corrected_sync(stage: Stage) -> None:
    app, url = stage.app, stage.url
    engine = create_engine(url, pool_size=40, pool_timeout=5, pool_pre_ping=True, pool_recycle=1800)

    @app.get("/health-of-the-database")
    def health() -> str:
        with engine.connect() as connection:
            return str(connection.scalar(text("SELECT 'fine'")))

    stage.at_end.append(engine.dispose)
