"""The page of the guide. Everything on it is ours, and escaped all the same."""

from collections.abc import Iterable
from html import escape

from demo_app.app import LIVE_PAGE
from demo_app.guide.act import Act
from demo_app.scenarios.scenario import Scenario

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #1b1f24; }
table { border-collapse: collapse; width: 100%; }
td, th { text-align: left; padding: .35rem .6rem; vertical-align: top; }
tr + tr td { border-top: 1px solid #d8dee4; }
form { display: inline; } button { font: inherit; margin: 0 .3rem .2rem 0; }
.now { background: #fff4d6; } pre { background: #f3f5f7; padding: 1rem; overflow-x: auto; } .small { color: #57606a; }
@media (prefers-color-scheme: dark) { body { background: #14181d; color: #e6e9ec; } pre { background: #1e242b; }
tr + tr td { border-color: #333b44; } .now { background: #3a3217; } a { color: #79b8ff; } .small { color: #9aa4af; } }
"""


def render(act: Act, *, starting: bool, refusals: dict[str, str], scenarios: Iterable[Scenario], shop: str) -> str:
    """The page while ``act`` is on. ``refusals`` says by name why a scenario cannot be shown here."""
    rows = "".join(_row(scenario, act, refusals.get(scenario.name, "")) for scenario in scenarios)
    refresh = '<meta http-equiv="refresh" content="1">' if starting else ""
    now = f"Starting <b>{escape(str(act))}</b> …" if starting else f"Now showing <b>{escape(str(act))}</b>."
    links = " · ".join(
        f'<a href="{escape(shop + path)}" target="_blank">{name}</a>'
        for name, path in (("live page", LIVE_PAGE), ("API", "/docs"), ("metrics", "/metrics"))
    )
    return f"""<!doctype html><html lang="en"><head><meta charset="utf-8">
<title>dbwatch demo: {escape(str(act))}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">{refresh}<style>{_STYLE}</style></head><body>
<h1>dbwatch demo</h1>
<p>{now} Keep the {links} open beside this page, pick a mistake, see what dbwatch says, and then pick its correction:
the same endpoint under the same load.</p>
{_details(act)}
<table><tr><th>mistake</th><th>look at</th><th></th></tr>{rows}</table>
<p>{_button("", "", "Back to the shop and its own traffic")}</p>
</body></html>"""


def _row(scenario: Scenario, act: Act, refusal: str) -> str:
    buttons = refusal and f'<span class="small">{escape(refusal)}</span>'
    if not refusal:
        buttons = "".join(
            _button(scenario.name, variant.name, f"{variant.name}: {variant.label}") for variant in scenario.variants
        )
    now = ' class="now"' if act.scenario is scenario else ""
    return (
        f"<tr{now}><td><b>{escape(scenario.mistake)}</b><br><span class='small'>{escape(scenario.name)}, "
        f"{escape(str(scenario.load))}</span></td><td>{escape(scenario.look_at)}</td><td>{buttons}</td></tr>"
    )


def _button(scenario: str, variant: str, label: str) -> str:
    return (
        f'<form method="post" action="/show?scenario={escape(scenario)}&amp;variant={escape(variant)}">'
        f"<button>{escape(label)}</button></form>"
    )


def _details(act: Act) -> str:
    if act.scenario is None:
        return ""
    scenario = act.scenario
    claim = f"<p>What articles say: {escape(scenario.claim)}</p>" if scenario.claim else ""
    return (
        f"<p>{escape(scenario.description)}</p><p><b>Look at:</b> {escape(scenario.look_at)}.</p>{claim}"
        f"<details><summary>{escape(scenario.file)}</summary><pre>{escape(scenario.source)}</pre></details>"
    )
