"""One picture of the ratios: how many times as fast as Redis, and what part of the floor's speed.

Both are ratios of speed, so that a longer bar is always better; the limit of a serial row, a ratio of times,
is turned over for that. A short black line marks the target. Memory, which is no speed, stays in the table.
"""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot

from benchmarks.report import Line
from benchmarks.rows import Unit

MET_COLOR, MISSED_COLOR, PLAIN_COLOR = "#3b7a57", "#b5443b", "#7a8794"
BAR_HEIGHT = 0.6


def as_speed(line: Line, ratio: float | None) -> float | None:
    """Return a ratio of printed figures as a ratio of speed."""
    if ratio is None or line.row.more_is_better:
        return ratio
    return 1 / ratio


def redis_bars(lines: Sequence[Line]) -> list[tuple[str, float, float | None, bool | None]]:
    """Return title, ratio, target and verdict beside Redis."""
    return [
        (
            line.row.title,
            as_speed(line, line.to_redis.of_medians) or 0.0,
            as_speed(line, line.row.to_redis),
            line.verdicts[0],
        )
        for line in lines
        if line.to_redis is not None
    ]


def floor_bars(lines: Sequence[Line]) -> list[tuple[str, float, float | None, bool | None]]:
    """Return title, ratio, target and verdict beside the floor."""
    return [
        (line.row.title, line.to_floor.of_medians, line.row.to_floor, line.verdicts[1])
        for line in lines
        if line.to_floor is not None
    ]


def draw_panel(axes: mpl.axes.Axes, label: str, rows: Sequence[tuple[str, float, float | None, bool | None]]) -> None:
    """Draw one panel of horizontal bars, the first row on top."""
    colors = {True: MET_COLOR, False: MISSED_COLOR, None: PLAIN_COLOR}
    for place, (_, ratio, target, met) in enumerate(rows):
        axes.barh(place, ratio, height=BAR_HEIGHT, color=colors[met])
        if target is not None:
            axes.vlines(target, place - 0.42, place + 0.42, color="black", linewidth=2)
    axes.set_yticks(range(len(rows)), [f"{title}: {ratio:.2f}" for title, ratio, *_ in rows])
    axes.invert_yaxis()
    axes.set_xlabel(label)
    axes.margins(x=0.05)
    axes.set_xlim(left=0)
    axes.spines[["top", "right"]].set_visible(False)


def draw(lines: Sequence[Line], path: Path) -> bool:
    """Write the picture, in the format of the path's ending; return False when there is no ratio to draw."""
    speed_lines = [line for line in lines if line.row.unit is not Unit.BYTES_PER_KEY]
    panels = [
        (label, rows)
        for label, rows in (
            ("times the speed of redis-py RedisCluster", redis_bars(speed_lines)),
            ("part of the speed of the bare floor", floor_bars(speed_lines)),
        )
        if rows
    ]
    if not panels:
        return False
    height = 1.6 + 0.45 * max(len(rows) for _, rows in panels)
    with mpl.rc_context({"font.size": 10, "svg.fonttype": "none"}):
        figure, axes = pyplot.subplots(1, len(panels), figsize=(6 * len(panels), height), squeeze=False)
        for axis, (label, rows) in zip(axes[0], panels, strict=True):
            draw_panel(axis, label, rows)
        figure.suptitle("gimmal: ratios within one run (black line: target; green met, red missed, grey none)")
        figure.tight_layout()
        figure.savefig(path)
        pyplot.close(figure)
    return True
