"""Every mistake as a broken and a fixed variant of one endpoint. Each file is meant to be read."""

from demo_app.scenarios import (
    background_task,
    engine_per_request,
    global_session,
    healthy,
    http_call,
    missing_commit,
    n_plus_one,
    nested_checkout,
    no_finally,
    no_pre_ping,
    overflow_churn,
    pool_too_small,
    return_not_yield,
    slow_query,
    sync_in_async,
)
from demo_app.scenarios.scenario import Scenario

#: All of them by name, in the order of a story: from the plain mistakes to the subtle ones.
SCENARIOS: dict[str, Scenario] = {
    module.SCENARIO.name: module.SCENARIO
    for module in (
        healthy,
        engine_per_request,
        sync_in_async,
        return_not_yield,
        no_finally,
        global_session,
        missing_commit,
        no_pre_ping,
        pool_too_small,
        overflow_churn,
        http_call,
        background_task,
        nested_checkout,
        n_plus_one,
        slow_query,
    )
}
