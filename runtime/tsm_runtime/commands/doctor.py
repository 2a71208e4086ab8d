"""`tsm-doctor`: what this machine can do, what is missing, and whether a bundle runs here."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tsm_runtime.commands.entry import new_app, run_command, version_option
from tsm_runtime.commands.installing import for_this_installation
from tsm_runtime.errors import CheckError
from tsm_runtime.terminal import printable, write_stdout

if TYPE_CHECKING:  # imports of numpy and av wait until they are needed: --help answers at once
    from tsm_runtime.verification.survey import Finding

app = new_app()

_SIGNS = {"ok": "ok", "missing": "--", "unusable": "!!"}


@app.command(
    help="Print what this machine can do: backends and their versions, processor, GPU, decoders, extras, and"
    " with --model which files of a bundle run here; what is missing, with the command that installs it.\n\n"
    "\b\nExit codes:\n  0  all was looked at, and each named bundle runs here\n"
    "  4  a bundle cannot be used\n  6  a named bundle cannot run here"
)
def tsm_doctor(
    model: Annotated[
        list[Path] | None,
        typer.Option("--model", "-m", help="bundle folder to look at, several times", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
    version: Annotated[bool, version_option()] = False,
) -> None:
    """Print what this machine can do."""
    from tsm_runtime.bundle.bundle import load_bundle
    from tsm_runtime.verification.survey import can_run, survey_bundle, survey_machine

    bundles = {path: list(survey_bundle(load_bundle(path))) for path in model or ()}
    machine = list(survey_machine())
    write_stdout((_as_json if as_json else _as_text)(machine, bundles).encode("utf-8", "backslashreplace"))
    unusable = [str(path) for path, findings in bundles.items() if not can_run(findings)]
    if unusable:
        raise CheckError(f"{', '.join(unusable)}: no model of it runs here; see above for what to install")


def _as_json(machine: list[Finding], bundles: dict[Path, list[Finding]]) -> str:
    from tsm_runtime.verification.survey import can_run

    content = {
        "machine": [asdict(finding) for finding in machine],
        "bundles": [
            {"path": str(path), "runs": can_run(findings), "files": [asdict(finding) for finding in findings]}
            for path, findings in bundles.items()
        ],
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _as_text(machine: list[Finding], bundles: dict[Path, list[Finding]]) -> str:
    lines: list[str] = []
    topic: str = ""
    for finding in machine:
        if finding.topic != topic:
            topic = finding.topic
            lines.append(topic)
        lines += _lines(finding)
    for path, findings in bundles.items():
        lines.append(f"bundle {printable(str(path))}")
        for finding in findings:
            lines += _lines(finding)
    return "\n".join(lines) + "\n"


def _lines(finding: Finding) -> list[str]:
    lines = [f"  {_SIGNS[finding.state]}  {printable(finding.name):<18} {printable(finding.detail)}"]
    if finding.remedy:
        lines.append(f"{'':24} {printable(for_this_installation(finding.remedy))}")
    return lines


def main() -> None:
    """Run the command."""
    run_command(app, "tsm-doctor")
