"""The summary of a written bundle: one line per file."""

from __future__ import annotations

from pathlib import Path

from tsm_export.export import Exported
from tsm_runtime.bundle.manifest import ModelFile
from tsm_runtime.wording import counted


def describe(source: Path, bundle: Path, exported: Exported) -> str:
    """Return a line on the bundle and one on each of its files."""
    files = exported.manifest.files
    lines = [f"{source} -> {bundle}"]
    for name, file in files.items():
        size = (bundle / name).stat().st_size / 1e6
        details = f"{_parity(file)}{_quantization(file)}{accuracy_text(file)}{_engine(file)}"
        lines.append(f"  {name} ({size:.1f} MB){details}")
    return "\n".join(lines)


def _parity(file: ModelFile) -> str:
    if file.parity is None:
        return ""
    differences = ", ".join(f"{name} {error:.1e}" for name, error in file.parity.max_abs_error.items())
    return (
        f": largest difference from PyTorch at batches {file.parity.batch_sizes}: {differences}"
        f" (allowed {file.parity.tolerance:g})"
    )


def _quantization(file: ModelFile) -> str:
    report = file.quantization
    if report is None:
        return ""
    left_out = f", left in fp32: {', '.join(report.left_out)}" if report.left_out else ""
    return (
        f"; ranges from {counted(report.num_clips, 'clip')}, noise of the logits {report.noise:.3f} on"
        f" {counted(report.num_held_out, 'other')}{left_out}"
    )


def accuracy_text(file: ModelFile) -> str:
    """Return what was measured on annotated videos, to follow other details of a file."""
    if file.accuracy is None:
        return ""
    scores = ", ".join(
        f"{name} {100 * value:.1f} (fp32 {100 * file.accuracy.fp32_scores[name]:.1f})"
        for name, value in file.accuracy.scores.items()
    )
    same = ", ".join(f"{name} {100 * share:.1f} %" for name, share in file.accuracy.top1_agreement.items())
    if file.accuracy.same_segments is not None:
        same += f", segments {100 * file.accuracy.same_segments:.1f} %"
    else:
        same += ", segments not compared: neither model finds one"
    return f"; on {counted(file.accuracy.num_videos, 'video')}: {scores}; same as fp32: {same}"


def _engine(file: ModelFile) -> str:
    engine = file.engine
    if engine is None:
        return ""
    gpus = engine.gpu or ", ".join(engine.compute_capabilities) or "RTX cards"
    types = ", ".join(f"{count} {name}" for name, count in engine.layer_types.items())
    takes = "pictures" if file.kind == "preprocess" else f"{', '.join(map(str, engine.batch))} clips"
    in_fp32 = f"; {len(engine.fp32_layers)} layers in fp32" if engine.fp32_layers else ""
    return f": {engine.library} {engine.version} for {gpus}, {takes}; outputs of layers: {types}{in_fp32}"
