"""A plan on standard output, in the form that was asked for. `plan` and `show` share it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..plan import Plan
from ..views.human import block_lines, plan_lines
from .options import PlanFormat, say, show

if TYPE_CHECKING:
    from ..plan_file import SavedPlan


def show_plan(plan: Plan, format: PlanFormat, saved: SavedPlan | None = None, *, refused: bool = False) -> None:
    """Print a plan. saved: as what it was saved; refused: by the compliance profiles."""
    plan_id = saved.id if saved else ""
    if format is PlanFormat.JSON:
        from ..views.document import dumps
        from ..views.json_view import plan_document

        say(dumps(plan_document(plan, plan_id=plan_id, errored=refused)))
    elif format is PlanFormat.MARKDOWN:
        from ..views.markdown import plan_markdown

        say(plan_markdown(plan, plan_id=plan_id, refused=refused))
    elif format is PlanFormat.HTML:
        from ..views.html import plan_html

        say(plan_html(plan, plan_id=plan_id, refused=refused))
    else:
        show(block_lines(plan) if refused else plan_lines(plan))
