"""The fault matrix at length: ``python -m tests.reliability.at_length ROUNDS`` writes its table.

Each round injects every fault once, in an order of its own. It fails if anything at all differed or was lost.
"""

import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.reliability import report
from tests.reliability.faults import FAULTS
from tests.reliability.stage import stage
from tests.reliability.trial import try_out

_COLUMNS = ("times", "requests", "differences", "slots lost", "violations")


def main() -> None:
    """Run the rounds and write the table. Exits with what was wrong."""
    rounds = int(sys.argv[1])
    counts = {fault: Counter[str]() for fault in FAULTS}
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as directory, stage(Path(directory)) as found:
        for number in range(rounds):
            for fault in random.Random(number).sample(FAULTS, len(FAULTS)):
                trial = try_out(found, fault)
                counts[fault].update(
                    {
                        "times": 1,
                        # The same ones to each of the two.
                        "requests": 2 * trial.sent,
                        "differences": len(trial.differences),
                        "slots lost": trial.slots_lost,
                        "violations": len(trial.violations),
                    }
                )
                for what in (*trial.differences, *trial.violations):
                    wrong.append(f"{fault}: {what}")
                    sys.stdout.write(f"{wrong[-1]}\n")
            sys.stdout.write(f"round {number + 1} of {rounds}: {len(wrong)} wrong\n")
            sys.stdout.flush()
    rows = [(fault.kind, fault.name, *(counts[fault][column] for column in _COLUMNS)) for fault in FAULTS]
    total = sum(counts.values(), Counter())
    rows.append(("all", "", *(total[column] for column in _COLUMNS)))
    report.write("faults", report.table(("server", "fault", *_COLUMNS), rows))
    if wrong:
        sys.exit(f"{len(wrong)} wrong, told where they were found.")


if __name__ == "__main__":
    main()
