"""The promise of a plan: apply may only fill in what was unknown."""

from __future__ import annotations

from ..errors import PromiseBroken
from ..resource import Tree, Unknown, as_mapping, as_sequence


def fits(planned: Tree, actual: Tree, where: str) -> None:
    """Check that `actual` only fills in what was `UNKNOWN` in `planned`.

    Raises:
        PromiseBroken: a value that the plan showed is another one now.
    """
    if isinstance(planned, Unknown):
        return
    left, right = as_mapping(planned), as_mapping(actual)
    if left is not None and right is not None:
        for key, value in left.items():
            fits(value, right.get(key), f"{where}.{key}")
        return
    left_items, right_items = as_sequence(planned), as_sequence(actual)
    if left_items is not None and right_items is not None and len(left_items) == len(right_items):
        for index, value in enumerate(left_items):
            fits(value, right_items[index], f"{where}[{index}]")
        return
    if planned != actual:
        raise PromiseBroken(
            f"{where}: the plan said {planned!r}, now it would be {actual!r}", hint="run plan again and look at it"
        )
