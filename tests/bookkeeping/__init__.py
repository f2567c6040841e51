"""What the numbers rest on: every hold begins and ends once whatever fails, and nothing of ours fails the app."""

import pytest

pytest.register_assert_rewrite("tests.bookkeeping.machine")
