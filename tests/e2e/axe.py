"""What axe-core is asked about a page."""

from __future__ import annotations

RULES: dict[str, dict[str, list[str]]] = {
    "light": {},
    "dark": {"runOnly": ["color-contrast", "link-in-text-block"]},
}
"""Options of axe-core by the colour scheme: all that it looks at but colours is the same in both."""

SERIOUS = """rules => axe.run({ resultTypes: ["violations"], ...rules }).then(({ violations }) => violations
  .filter(({ impact }) => ["serious", "critical"].includes(impact))
  .map(({ id, nodes }) => `${id}: ${nodes[0].html.slice(0, 200)} ${nodes[0].failureSummary}`))"""
