"""Owns the pictures as ECharts takes them: data alone, without a function or markup. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

_FIRST = "to the first token, or the answer"
_REST = "streams"
_GRID = {"left": 8, "right": 16, "top": 16, "bottom": 36, "containLabel": True}


def draw_series(
    names: Sequence[str],
    times: Sequence[int],
    values: Sequence[Sequence[float | None]],
    *,
    title: str,
    stacked: bool,
) -> dict[str, Any]:
    """Return a picture over time: bars that are stacked, or lines.

    Args:
        names: of the series.
        times: epoch milliseconds.
        values: of each series at each time.
        title: said to those who do not see the picture.
        stacked: bars upon each other; else lines.
    """
    series = [
        {
            "name": name,
            "type": "bar" if stacked else "line",
            "data": [[time, value] for time, value in zip(times, row, strict=True)],
            **({"stack": "all", "barMaxWidth": 24} if stacked else {"showSymbol": len(times) < 3}),  # noqa: PLR2004
        }
        for name, row in zip(names, values, strict=True)
    ]
    return _frame(title) | {
        "xAxis": {"type": "time"},
        "yAxis": {"type": "value"},
        "tooltip": {"trigger": "axis", "renderMode": "richText", "confine": True},
        "series": series,
    }


def draw_waterfall(
    rows: Sequence[tuple[str, float, float, float]], *, title: str
) -> dict[str, Any]:
    """Return when each leg of a trace ran, one below the other.

    Args:
        rows: name, begin, seconds to the first token, seconds after it; begins are seconds after
            the first one.
        title: said to those who do not see the picture.
    """
    names = [f"{number}. {name}" for number, (name, *_) in enumerate(rows, 1)]
    return _frame(title) | {
        "grid": {**_GRID, "bottom": 52},
        "legend": {"bottom": 0, "data": [_FIRST, _REST]},
        "xAxis": {"type": "value"},
        "yAxis": {"type": "category", "inverse": True, "data": names},
        "tooltip": {"trigger": "axis", "renderMode": "richText", "confine": True},
        "series": [
            {
                "name": "begins at",
                "type": "bar",
                "stack": "all",
                "silent": True,
                "itemStyle": {"color": "transparent"},
                "data": [begin for _, begin, _, _ in rows],
            },
            {
                "name": _FIRST,
                "type": "bar",
                "stack": "all",
                "data": [first for _, _, first, _ in rows],
            },
            {
                "name": _REST,
                "type": "bar",
                "stack": "all",
                "data": [rest for _, _, _, rest in rows],
            },
        ],
    }


def _frame(title: str) -> dict[str, Any]:
    return {
        "animation": False,
        "aria": {"enabled": True, "label": {"description": title}},
        "grid": _GRID,
        "legend": {"type": "scroll", "bottom": 0},
    }
