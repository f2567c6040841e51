import pytest

from demo_app.settings import Settings, SettingsError, engine_urls


@pytest.mark.parametrize(
    ("given", "sync", "asynchronous"),
    [
        ("postgresql+psycopg://u@h/d", "postgresql+psycopg://u@h/d", "postgresql+asyncpg://u@h/d"),
        ("postgresql+asyncpg://u:p@h:1/d", "postgresql+psycopg://u:p@h:1/d", "postgresql+asyncpg://u:p@h:1/d"),
        ("sqlite:///a.db", "sqlite+pysqlite:///a.db", "sqlite+aiosqlite:///a.db"),
        ("sqlite+aiosqlite:////tmp/a.db", "sqlite+pysqlite:////tmp/a.db", "sqlite+aiosqlite:////tmp/a.db"),
        (
            "postgresql+psycopg://h/d?sslmode=require",
            "postgresql+psycopg://h/d?sslmode=require",
            "postgresql+asyncpg://h/d?ssl=require",
        ),
    ],
)
def test_one_url_serves_the_sync_and_the_async_engine(given: str, sync: str, asynchronous: str) -> None:
    urls = [url.render_as_string(hide_password=False) for url in engine_urls(given)]
    assert urls == [sync, asynchronous]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "DATABASE_URL is not set; set it to postgresql"),
        ("nonsense", "DATABASE_URL is not a database URL; write it like postgresql"),
        ("postgresql://u:secret@h/d", r"u:\*\*\*@h/d names no driver; write postgresql\+psycopg:// in front"),
        ("postgresql+psycopg2://u:secret@h/d", "does not know the driver 'psycopg2'"),
        ("mysql+pymysql://u:secret@h/d", "does not know the database 'mysql'"),
        ("sqlite://", "cannot share a database in memory; name a file"),
        ("sqlite:///:memory:", "cannot share a database in memory; name a file"),
        ("postgresql+psycopg://u:secret@[::1/d", "is not a database URL"),
    ],
)
def test_a_url_that_cannot_be_used_is_explained_without_its_password(url: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message) as refused:
        Settings.load(database_url=url)
    assert "secret" not in str(refused.value)


def test_the_environment_sets_the_pools(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"POOL_SIZE": "3", "MAX_OVERFLOW": "0", "POOL_TIMEOUT": "0.5", "POOL_PRE_PING": "no"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DATABASE_URL", "sqlite:///a.db")
    settings = Settings.load()
    assert (settings.pool_size, settings.max_overflow, settings.pool_timeout) == (3, 0, 0.5)
    assert not settings.pool_pre_ping
    assert settings.most_connections == 6


@pytest.mark.parametrize(
    ("name", "value"), [("POOL_SIZE", "0"), ("POOL_SIZE", "five"), ("MAX_OVERFLOW", "-1"), ("POOL_TIMEOUT", "0")]
)
def test_a_wrong_value_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=f"^{name}={value}: input should be"):
        Settings.load(database_url="sqlite:///a.db")
