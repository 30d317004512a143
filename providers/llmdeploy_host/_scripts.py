"""Renders the templates of this package."""

from __future__ import annotations


def render(template: str, /, **values: object) -> str:
    """Return `templates/llmdeploy_templates/host/<template>` with `values` filled in."""
    # Imported here: every command line reads the types, few render anything.
    from llmdeploy_templates import render as render_template

    return render_template(f"host/{template}", **values)
