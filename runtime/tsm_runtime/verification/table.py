"""Output of a verification as a table or as one JSON object."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from tsm_runtime.bundle.bundle import Bundle
from tsm_runtime.bundle.reports import Verification
from tsm_runtime.plain_table import console_text
from tsm_runtime.terminal import printable
from tsm_runtime.verification.compare import RELATIVE_FLOOR, SegmentAgreement
from tsm_runtime.verification.comparison import Comparison
from tsm_runtime.verification.pictures import PictureDifference
from tsm_runtime.verification.verify import REFERENCE, VerificationReport
from tsm_runtime.wording import counted

if TYPE_CHECKING:
    # rich costs more time to import than the rest of the runtime: only the functions that print import it.
    from rich.console import Console
    from rich.table import Table

_PLAIN_WIDTH = 120
_COLUMNS = ("file", "input", "output", "max error", "relative", "top-1 %", "segments %", "")
_LEFT = frozenset({"file", "input", "output", "segments %", ""})


def verification_to_json(report: VerificationReport, bundle: Bundle, verification: Verification) -> bytes:
    """Return one JSON object: the manifest's record, with further reasons and counts.

    Args:
        report: the report.
        bundle: the verified bundle.
        verification: the manifest's record of the report.
    """
    content = {
        "bundle": printable(str(bundle.path)),
        "bundle_sha256": bundle.manifest_sha256,
        "reference": {"file": REFERENCE, "backend": report.reference},
        "passed": not report.failed_files,
        "compared": report.compared_files,
        "verification": verification,
        "problems": [
            {"file": comparison.variant.label, "input": comparison.clips, "problem": problem}
            for comparison in report.comparisons
            for problem in comparison.problems
        ],
        "failures": report.failures,
        "segments": [
            {
                "file": comparison.variant.label,
                "input": comparison.clips,
                "reference": comparison.segments.num_first,
                "file_has": comparison.segments.num_second,
                "shared": comparison.segments.num_shared,
            }
            for comparison in report.comparisons
            if comparison.segments is not None
        ],
        "pictures": [
            {"file": comparison.variant.label, "input": comparison.clips, **asdict(comparison.pictures)}
            for comparison in report.comparisons
            if comparison.pictures is not None
        ],
    }
    return msgspec.json.format(msgspec.json.encode(content), indent=1) + b"\n"


def verification_to_text(report: VerificationReport, bundle: Bundle) -> bytes:
    """Return the table, the failed and skipped files with reasons, and the verdict, for standard output."""
    return console_text(partial(_print_report, report, bundle), plain_width=_PLAIN_WIDTH)


def _print_report(report: VerificationReport, bundle: Bundle, console: Console) -> None:
    head = f"{bundle.path}: {REFERENCE} on {report.reference}, one clip per call, is the reference"
    console.print(printable(head), soft_wrap=True)
    if report.comparisons:
        console.print(_table(report))
    for line in _lines(report):
        console.print(printable(line), soft_wrap=True)


def _table(report: VerificationReport) -> Table:
    from rich import box
    from rich.table import Table as RichTable

    table = RichTable(box=box.SIMPLE, pad_edge=False, padding=(0, 1, 0, 0))
    for name in _COLUMNS:
        table.add_column(name, justify="left" if name in _LEFT else "right", overflow="fold")
    shown = ""
    for comparison in report.comparisons:
        if comparison.variant.label != shown:
            table.add_section()
        table.add_row(*_cells(comparison, name_file=comparison.variant.label != shown))
        shown = comparison.variant.label
    return table


def _cells(comparison: Comparison, *, name_file: bool) -> list[str]:
    """Return the cells of a comparison, with a line for each output."""
    calls = " and ".join(map(str, comparison.batch_sizes))
    heads = comparison.heads.values()
    return [
        f"{printable(comparison.variant.label)}\n{calls} a call" if name_file else "",
        f"{printable(comparison.clips)}\n{counted(comparison.num_clips, 'clip')}",
        "\n".join(name.removesuffix("_scores") for name in comparison.heads),
        "\n".join(f"{head.max_abs_error:.1e}" for head in heads),
        "\n".join(f"{head.max_rel_error:.1e}" for head in heads),
        "\n".join(f"{100 * head.top1_agreement:.2f}" for head in heads),
        _segments(comparison.segments),
        "FAILED" if comparison.problems else "passed",
    ]


def _pictures(comparison: Comparison, pictures: PictureDifference) -> str:
    others = f", {pictures.num_others} others are the CPU's" if pictures.num_others else ""
    return (
        f"{comparison.variant.label} on {comparison.clips}: its {pictures.num_drawn} pictures are"
        f" {pictures.mean:.2f} levels of 255 from the CPU's on the mean, {pictures.largest} at most{others};"
        f" above is what {REFERENCE} makes of them"
    )


def _segments(agreement: SegmentAgreement | None) -> str:
    r"""Return the percentage and its counts.

    >>> _segments(SegmentAgreement(num_first=7, num_second=6, num_shared=5))
    '76.92\n7 and 6, 5 shared'
    """
    if agreement is None:
        return ""
    counts = f"{agreement.num_first} and {agreement.num_second}, {agreement.num_shared} shared"
    found = agreement.num_first or agreement.num_second
    return f"{100 * agreement.share:.2f}\n{counts if found else 'none in either'}"


def _int8_backends(report: VerificationReport) -> dict[str, str]:
    """Return the backend by label of each INT8 file, whose speed depends on the processor's instructions."""
    return {
        comparison.variant.label: comparison.backend
        for comparison in report.comparisons
        if "int8" in comparison.variant.file
    }


def _lines(report: VerificationReport) -> Iterator[str]:
    if report.comparisons:
        yield (
            "max error: largest difference of a probability; relative: the same over the larger of the two,"
            f" which counts as {RELATIVE_FLOOR:g} at least; segments: share of those of both models that the"
            " other has too (same label, tIoU over 0.5); noise is judged by its error alone"
        )
    for label, backend in _int8_backends(report).items():
        yield f"{label} ran on {backend}"
    for comparison in report.comparisons:
        if comparison.pictures is not None:
            yield _pictures(comparison, comparison.pictures)
        for problem in comparison.problems:
            yield f"FAILED  {comparison.variant.label} on {comparison.clips}: {problem}"
    for file, reason in report.failures.items():
        yield f"FAILED  {file}: {reason}"
    for file, reason in report.not_run.items():
        yield f"not run  {file}: {reason}"
    if not report.compared_files and not report.failures:
        yield "nothing but the reference could be run here: no other file was compared with it"
    yield "FAILED" if report.failed_files else "passed"
