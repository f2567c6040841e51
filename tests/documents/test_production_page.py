"""The page on production: the line that starts several workers does what the page says of it."""

import subprocess
from pathlib import Path

from tests.documents.pages import PAGES, blocks_of


def test_the_line_before_the_server_leaves_no_file_of_an_earlier_run(tmp_path: Path) -> None:
    [block] = blocks_of(PAGES["docs/production.md"], "sh")
    looking = """sh -c 'ls -A "$PROMETHEUS_MULTIPROC_DIR"; touch "$PROMETHEUS_MULTIPROC_DIR/counter_7.db"'"""
    line = block.replace("/tmp/shop", str(tmp_path / "shop")).replace("uvicorn shop:app --workers 4", looking)
    for _ in range(2):
        assert subprocess.check_output(line, shell=True, text=True) == ""
    assert (tmp_path / "shop" / "counter_7.db").exists()
