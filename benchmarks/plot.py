"""Figures of stored results: benchmarks/results/*.json -> figures/*.svg. Nothing is measured here.

`throughput*.json` become a bar chart of hours of video per hour and one of the seconds of each stage,
`inference*.json` clips per second over the batch size, `memory*.json` peak memory over the video's length,
`baseline_torch*.json` one chart of ratios. Needs matplotlib.

    python benchmarks/plot.py [--results FOLDER] [--output FOLDER]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

HERE = Path(__file__).parent
STAGES = ("decode", "clips", "model", "whole")


def main() -> None:
    """Draw what there is."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--results", type=Path, default=HERE / "results")
    parser.add_argument("--output", type=Path, default=HERE / "figures")
    options = parser.parse_args()
    stored = {path.stem: json.loads(path.read_text()) for path in sorted(options.results.glob("*.json"))}
    options.output.mkdir(parents=True, exist_ok=True)
    for name, document in stored.items():
        for kind, draw in DRAWN.items():
            if name.startswith(kind) and "rows" in document:
                save(options.output / f"{name}.svg", draw, document)
    ratios = {name: doc for name, doc in stored.items() if name.startswith("baseline_torch")}
    if ratios:
        save(options.output / "baseline_torch.svg", draw_ratios, ratios)


def save(path: Path, draw: Callable[[Axes, Any], None], document: Mapping[str, Any]) -> None:
    """Draw one figure, with the machine below it."""
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    draw(axes, document)
    machine = document.get("machine") or next(iter(document.values()))["machine"]
    where = f"{machine['processor']}, {machine['cores']} cores, commit {machine['commit']}"
    figure.supxlabel(where, fontsize="x-small", color="0.4")
    figure.savefig(path)
    plt.close(figure)
    print(path)


def draw_throughput(axes: Axes, document: Mapping[str, Any]) -> None:
    """Seconds of each stage, a group of bars for each combination."""
    rows = document["rows"]
    width = 0.8 / len(STAGES)
    for number, stage in enumerate(STAGES):
        places = [place + number * width for place in range(len(rows))]
        axes.bar(places, [row["seconds"][stage]["median"] for row in rows], width, label=stage)
    middles = [place + 0.4 - width / 2 for place in range(len(rows))]
    labels = [
        f"{row['backend'][0].split(',')[0]}\n{row['precision']}, batch {row['batch']}, jobs {row['jobs']}\n"
        f"{row['hours_per_hour']:g} h/h"
        for row in rows
    ]
    axes.set_xticks(middles, labels, fontsize="x-small")
    axes.set_ylabel("seconds")
    axes.legend(title=", ".join(model["backbone"] for model in document["models"]))


def draw_inference(axes: Axes, document: Mapping[str, Any]) -> None:
    """Clips per second over the batch size, a line for each backend and precision."""
    lines: dict[str, list[tuple[int, float]]] = {}
    for row in document["rows"]:
        lines.setdefault(row["backend"], []).append((row["batch"], row["clips_per_second"]))
    for label, points in lines.items():
        axes.plot(*zip(*sorted(points), strict=True), marker="o", label=label)
    axes.set_xlabel("clips per batch")
    axes.set_ylabel("clips per second")
    axes.set_ylim(bottom=0)
    axes.legend(title=document["backbone"])


def draw_memory(axes: Axes, document: Mapping[str, Any]) -> None:
    """Peak memory over the length of the video."""
    points = [(row["seconds"], row["peak_mib"]) for row in document["rows"]]
    axes.plot(*zip(*points, strict=True), marker="o")
    axes.set_xlabel(f"seconds of {document['size']} video")
    axes.set_ylabel("peak resident memory (MiB)")
    axes.set_ylim(bottom=0)


def draw_ratios(axes: Axes, documents: Mapping[str, Any]) -> None:
    """Times as fast as PyTorch, a bar for each result, with the ratio of every pair."""
    names = list(documents)
    axes.barh(names, [documents[name]["ratio"] for name in names], color="0.8")
    for name in names:
        axes.plot(documents[name]["ratios"], [name] * len(documents[name]["ratios"]), "k|")
    axes.axvline(1, color="0.4")
    axes.set_xlabel("times as fast as the fastest PyTorch variant")


DRAWN: Mapping[str, Callable[[Axes, Any], None]] = {
    "throughput": draw_throughput,
    "inference": draw_inference,
    "memory": draw_memory,
}


if __name__ == "__main__":
    main()
