"""Sizing advice: connections needed against configured, with its arithmetic.

Two numbers say how many connections are needed. The mean is Little's law: rate x hold. The 99th percentile of the
sampled used + waiters says how many keep 99 of 100 seconds free of waits; it decides the size, because the mean hides
the bursts. The peak decides the limit.
"""

from typing import Final

from dbwatch.outputs.live.document import Advice

#: Samples from which a 99th percentile means something, and from which a smaller pool may be advised.
ENOUGH_SAMPLES: Final = 120
ENOUGH_TO_LOWER: Final = 600
#: Share of connections held without running SQL from which a larger pool is the wrong remedy.
MOSTLY_IDLE: Final = 0.5


def advise(
    *,
    rate: float,
    hold: float,
    samples: int,
    needed_p99: int | None,
    needed_peak: int,
    size: int,
    limit: int | None,
    idle_share: float = 0.0,
    workers: int = 1,
    pools_connections: bool = True,
) -> Advice:
    """Advice for the pool of one worker.

    Args:
        rate: checkouts a second.
        hold: mean hold in seconds.
        samples: how many samples ``needed_p99`` stands on.
        needed_p99: 99th percentile of used + waiters, leaked connections left out; None without a sample.
        needed_peak: the most connections that were needed at once.
        size: pool_size.
        limit: pool_size + max_overflow, None if unlimited.
        idle_share: at the times that call for so many, the share of the connections held that ran no SQL.
        workers: processes with a pool of this configuration each.
        pools_connections: False for NullPool and the like, whose size cannot be chosen.
    """
    mean = rate * hold
    arithmetic = (
        f"{rate:.1f} checkouts/s x {_short_seconds(hold)} mean hold = {mean:.1f} connections on average; "
        f"p99 of used + waiters over {samples} samples: {'none' if needed_p99 is None else needed_p99}; "
        f"peak: {needed_peak}" + (f" (per worker; the busiest of {workers})" if workers > 1 else "")
    )
    advice: Advice = {
        "action": "keep",
        "text": "",
        "arithmetic": arithmetic,
        "mean_needed": mean,
        "p99_needed": needed_p99,
        "peak_needed": needed_peak,
        "size": None,
        "limit": None,
    }
    if not pools_connections:
        advice["text"] = "This pool class has no size to choose."
        return advice
    if needed_p99 is None or samples < ENOUGH_SAMPLES or needed_peak == 0:
        advice["action"] = "wait"
        advice["text"] = (
            "No traffic yet to size the pool by."
            if needed_peak == 0
            else f"Advice comes after {ENOUGH_SAMPLES} s of samples; there are {samples}."
        )
        return advice
    best_size = max(1, needed_p99)
    best_limit = max(best_size, needed_peak)
    advice["size"], advice["limit"] = best_size, best_limit
    setting = f"pool_size={best_size}, max_overflow={best_limit - best_size}"
    short_of_size, short_of_limit = size < best_size, limit is not None and limit < best_limit
    if short_of_size or short_of_limit:
        advice["action"] = "raise"
        why = (
            f"99 % of the time {best_size} are enough, the size is {size}"
            if short_of_size
            else f"at the peak {best_limit} were needed, the limit is {limit}"
        )
        advice["text"] = (
            f"Shorten the holds first: when most were needed, {idle_share:.0%} of those held ran no SQL. With holds as "
            f"they are: {setting}; {why}."
            if idle_share >= MOSTLY_IDLE
            else f"Raise to {setting}: {why}."
        )
    elif samples >= ENOUGH_TO_LOWER and size >= 2 * best_size and size - best_size >= 3:
        advice["action"] = "lower"
        advice["text"] = f"Could be smaller: {setting} would have served these ten minutes."
    else:
        limit_words = "no limit" if limit is None else f"limit {limit}"
        advice["text"] = f"Fits: size {size} and {limit_words} cover the {best_size} needed 99 % of the time" + (
            f" and the peak of {best_limit}." if limit is None or limit >= best_limit else "."
        )
    return advice


def _short_seconds(value: float) -> str:
    return f"{value * 1e3:.1f} ms" if value < 1 else f"{value:.2f} s"
