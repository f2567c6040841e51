"""Lines of an app that is installed itself, as in an image, and that a script of its own starts."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

APPLICATION = """
    from sqlalchemy import create_engine, text
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route
    from dbwatch import DBWatchMiddleware

    engine = create_engine("sqlite://")

    async def runs(request):
        with engine.connect() as connection:
            return PlainTextResponse(str(connection.scalar(text("SELECT 1"))))

    app = Starlette(routes=[Route("/runs", runs)])
    app.add_middleware(DBWatchMiddleware)
"""
# What uvicorn's own script does: everything up to the request is called from here.
SCRIPT = """
    import asyncio, threading, time, urllib.request
    import uvicorn
    from warehouse.web import app
    import dbwatch

    def visit(server):
        while not server.started:
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        urllib.request.urlopen(f"http://127.0.0.1:{port}/runs").read()
        server.should_exit = True

    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    threading.Thread(target=visit, args=[server]).start()
    asyncio.run(server.serve())
    for finding in dbwatch.findings():
        print(finding.finding, finding.lines[0])
"""


def test_the_lines_of_an_installed_app_are_its_own_and_not_those_of_the_script_that_starts_it(tmp_path: Path) -> None:
    package = tmp_path / "lib" / "site-packages" / "warehouse"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "web.py").write_text(textwrap.dedent(APPLICATION))
    script = tmp_path / "bin" / "warehouse"
    script.parent.mkdir()
    script.write_text(textwrap.dedent(SCRIPT))
    here = str(Path(__file__).resolve().parents[2])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(package.parent), here])}
    answer = subprocess.run(
        [sys.executable, str(script)], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.startswith("blocked_event_loop ")
    assert answer.stdout.rstrip().endswith("warehouse/web.py:12 runs")
