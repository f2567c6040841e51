"""What is checked before anything is started, so that a wrong value costs one sentence and leaves nothing behind."""

import errno
import socket
from pathlib import Path

from sqlalchemy import create_engine
from sqlalchemy.exc import SQLAlchemyError

from demo_app.processes import DemoError
from demo_app.settings import Settings


def free_port(host: str, port: int) -> int:
    """The port, or any free one for 0. Raises DemoError if the app could not listen there."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise _bad_host(host, (error.strerror or str(error)).lower()) from None
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            if error.errno == errno.EADDRNOTAVAIL:
                raise _bad_host(host, reason) from None
            raise DemoError(f"Port {port} on {host}: {reason}; choose another with --port.") from None
        chosen: int = probe.getsockname()[1]
        return chosen


def _bad_host(host: str, reason: str) -> DemoError:
    return DemoError(f"--host {host}: {reason}; use 127.0.0.1 or an address of this machine.")


def check_report(path: Path | None) -> None:
    """Raise DemoError if the report could not be written when all is over."""
    if path is not None and not path.parent.is_dir():
        raise DemoError(f"--report {path}: there is no directory {path.parent}; create it or name another file.")


def check_database(settings: Settings) -> None:
    """Connect once. Raises DemoError if the database does not answer."""
    url = settings.sync_url
    arguments = {"connect_timeout": 5} if url.get_backend_name() == "postgresql" else {}
    engine = create_engine(url, connect_args=arguments)
    try:
        engine.connect().close()
    except SQLAlchemyError as error:
        reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        shown = url.render_as_string(hide_password=True)
        raise DemoError(
            f"DATABASE_URL={shown} does not answer: {reason.rstrip('.')}; "
            "start that database, or leave DATABASE_URL out for the embedded PostgreSQL."
        ) from None
    finally:
        engine.dispose()
