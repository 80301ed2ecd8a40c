"""One picture of membership: how long until all know of a death, and what each node sends."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot

COLORS = {10: "#7a8794", 100: "#3b7a57", 1_000: "#b5443b"}
LINES = {0.0: "solid", 0.05: "dotted"}
CONDITIONS = {
    "rest": ("at rest", "o"),
    "loss": ("at rest, 5 % loss", "s"),
    "churn": ("a death a minute", "^"),
}


def draw_detection(axes: mpl.axes.Axes, kept: Mapping[str, Mapping[str, Any]]) -> None:
    """Draw which part of the deaths is known to all after how long."""
    for key, figures in kept.items():
        if key.startswith("detection"):
            nodes, loss = figures["nodes"], figures["loss"]
            axes.plot(
                figures["known_to_all_s"],
                range(101),
                color=COLORS[nodes],
                linestyle=LINES[loss],
                label=f"{nodes:,} nodes" + (f", {loss:.0%} loss" if loss else ""),
            )
    axes.set_xlabel("seconds after a node fell silent")
    axes.set_ylabel("% of deaths that all nodes know of")
    axes.set_xlim(left=0)
    axes.legend(frameon=False)


def draw_traffic(axes: mpl.axes.Axes, kept: Mapping[str, Mapping[str, Any]]) -> None:
    """Draw the bytes that a node sends per second, by the size of the cluster."""
    for condition, (label, marker) in CONDITIONS.items():
        points = [
            (figures["nodes"], figures["bytes"])
            for key, figures in kept.items()
            if key.startswith("traffic") and key.endswith(condition)
        ]
        if points:
            axes.plot(*zip(*points, strict=True), marker=marker, color="#3b5b7a", label=label, linewidth=1)
    axes.set_xscale("log")
    axes.set_xticks(list(COLORS), [f"{nodes:,}" for nodes in COLORS])
    axes.minorticks_off()
    axes.set_xlabel("nodes")
    axes.set_ylabel("bytes of probes and gossip per node and second")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)


def draw(kept: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Write the picture, in the format of the path's ending."""
    with mpl.rc_context({"font.size": 10, "svg.fonttype": "none", "svg.hashsalt": "membership"}):
        figure, axes = pyplot.subplots(1, 2, figsize=(12, 4.6))
        draw_detection(axes[0], kept)
        draw_traffic(axes[1], kept)
        for axis in axes:
            axis.spines[["top", "right"]].set_visible(False)
        figure.suptitle("gimmal: membership in simulated clusters")
        figure.tight_layout()
        figure.savefig(path, metadata={"Date": None})
        pyplot.close(figure)
