"""The page on advice names every remark, and its code runs."""

import re
import subprocess
import sys
from pathlib import Path

from dbwatch.settings import ADVICE

PAGE = (Path(__file__).parents[2] / "docs" / "advice.md").read_text("utf-8")


def test_every_remark_has_a_row() -> None:
    assert set(re.findall(r"^\| `(\w+)` \| ", PAGE, re.MULTILINE)) == {*ADVICE, "wait", "raise", "lower", "keep"}


def test_the_code_of_the_page_runs_and_prints_the_advice(tmp_path: Path) -> None:
    (block,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", block],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "primary wait No traffic yet to size the pool by."
    assert "more_overflow_than_size" in done.stdout
