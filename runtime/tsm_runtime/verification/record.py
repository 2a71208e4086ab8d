"""A verification in the manifest of its bundle."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec

from tsm_runtime.bundle.bundle import Bundle, load_bundle
from tsm_runtime.bundle.manifest import MANIFEST, encode_manifest
from tsm_runtime.bundle.reports import FileVerification, Verification
from tsm_runtime.errors import RunError
from tsm_runtime.files import write_whole
from tsm_runtime.verification.compare import HeadDifference
from tsm_runtime.verification.comparison import Comparison
from tsm_runtime.verification.host import describe_machine, hardware_of
from tsm_runtime.verification.tolerances import tolerance_for
from tsm_runtime.verification.verify import VerificationReport


def to_verification(
    report: VerificationReport, bundle: Bundle, max_abs_error: float | None = None
) -> Verification:
    """Return the manifest's record of a report: an entry for each comparison and for each failure.

    Args:
        report: the report.
        bundle: the verified bundle.
        max_abs_error: as passed to `verify`.
    """
    compared = [_compared(comparison, bundle) for comparison in report.comparisons]
    failed = [
        FileVerification(
            file=variant.file,
            sha256=bundle.manifest.files[variant.file].sha256,
            backend=variant.engine or "",
            input="",
            num_clips=0,
            max_abs_error={},
            max_rel_error={},
            top1_agreement={},
            tolerance=tolerance_for(
                variant.precision(bundle.manifest.files[variant.file]), max_abs_error
            ).max_abs_error,
            passed=False,
            problems=(reason,),
        )
        for variant, reason in report.failed.items()
    ]
    return Verification(
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=describe_machine(),
        files=(*compared, *failed),
        not_run=dict(report.not_run),
    )


def _compared(comparison: Comparison, bundle: Bundle) -> FileVerification:
    return FileVerification(
        file=comparison.variant.file,
        sha256=bundle.manifest.files[comparison.variant.file].sha256,
        backend=comparison.backend,
        input=comparison.clips,
        num_clips=comparison.num_clips,
        max_abs_error=_of_each(comparison.heads, "max_abs_error"),
        max_rel_error=_of_each(comparison.heads, "max_rel_error"),
        top1_agreement=_of_each(comparison.heads, "top1_agreement"),
        segment_agreement=None if comparison.segments is None else comparison.segments.share,
        tolerance=comparison.tolerance.max_abs_error,
        passed=not comparison.problems,
        problems=comparison.problems,
    )


def _of_each(heads: Mapping[str, HeadDifference], name: str) -> dict[str, float]:
    return {head: getattr(difference, name) for head, difference in heads.items()}


def write_verification(bundle: Bundle, verification: Verification) -> None:
    """Write a verification into the manifest, replacing an older one of the same hardware.

    The manifest is read again, since another machine may have written its own verification meanwhile.

    Raises:
        BundleError: the manifest is no longer readable.
        RunError: the manifest cannot be written, or now belongs to another bundle.
    """
    path = bundle.path / MANIFEST
    current = load_bundle(bundle.path)
    if current.manifest_sha256 != bundle.manifest_sha256:
        raise RunError(
            f"{path}: was changed meanwhile, so the result is not written into it; verify it again"
        )
    manifest = msgspec.structs.replace(current.manifest, verifications=())
    hardware = hardware_of(verification.machine)
    kept = [v for v in current.manifest.verifications if hardware_of(v.machine) != hardware]
    manifest = msgspec.structs.replace(manifest, verifications=(*kept, verification))
    write_whole(path, encode_manifest(manifest))
