from __future__ import annotations

import pytest

from llmdeploy.views.figures import aligned, exact_usd, gib, percent, quantity, three, usd


def test_figures() -> None:
    assert gib(47_999_614_976) == "44.70"
    assert [usd(x) for x in (0, 0.0004, 0.5, 7659.631)] == ["0.00", "0.0004", "0.50", "7,659.63"]
    assert [exact_usd(x) for x in (13.1158, 1, 0.027, 0.000001)] == ["13.1158", "1.00", "0.027", "0.000001"]
    assert [quantity(x) for x in (2, 142.6, 1234.5, 0.6)] == ["2", "142.6", "1,234.5", "0.6"]
    assert [three(x) for x in (0.25, 12.34, 99.96, 1234.4, 0)] == ["0.25", "12.3", "100", "1,234", "0"]
    assert [percent(x, 200) for x in (0, 0.1, 80, 200)] == ["0 %", "<1 %", "40 %", "100 %"]


def test_the_points_of_a_column_stand_in_line() -> None:
    texts = aligned(["13.1158", "1.00", "2", "unknown", ""])
    assert texts == ["13.1158", "1.00\u2007\u2007", "2\u2008\u2007\u2007\u2007\u2007", "unknown", ""]
    assert aligned(["1", "22"]) == ["1", "22"]


@pytest.mark.parametrize(
    ("amount", "text"), [(0, "0.00"), (1234.5, "1,234.50"), (0.0225, "0.0225"), (0.00001, "<0.0001"), (-2, "-2.00")]
)
def test_amounts(amount: float, text: str) -> None:
    assert usd(amount) == text


@pytest.mark.parametrize(
    ("amount", "text"),
    [(3, "3.00"), (0.125, "0.125"), (15.5, "15.50"), (0.0375, "0.0375"), (16.57216, "16.57216"), (26_000 / 36, "722.2222")],
)
def test_prices_keep_their_digits(amount: float, text: str) -> None:
    assert exact_usd(amount) == text
