#!/usr/bin/env python3
"""Writes docs/settings.md from the settings themselves; tests/test_settings.py holds the two together."""

from __future__ import annotations

import sys
from pathlib import Path

from tallystick.settings import FILE_NAME, describe

PAGE = Path(__file__).resolve().parents[1] / "docs" / "settings.md"

HEAD = f"""# Settings

From `{FILE_NAME}` in the folder where `tally` is started (or `--config FILE`), then `TALLY_*`
variables, then flags; the later wins. An unknown key is an error that names the nearest known one.
`tally settings` shows what holds now.

| setting | default | limits | variable | what it is for |
|---|---|---|---|---|
"""


def page() -> str:
    """The whole page as Markdown."""
    rows = []
    for row in describe():
        low, high, unit = row["low"], row["high"], row["unit"]
        limits = f"{low:g} to {high:g} {unit}".strip() if low is not None else ""
        value = str(row["default"]).lower() if row["type"] == "bool" else row["default"]
        default = f"`{value}`" if value != "" else "(empty)"
        rows.append(f"| `{row['name']}` | {default} | {limits} | `{row['env']}` | {row['doc']} |\n")
    return HEAD + "".join(rows)


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(), "utf-8")
    sys.stdout.write(f"{PAGE.name}: {len(page().splitlines())} lines\n")
