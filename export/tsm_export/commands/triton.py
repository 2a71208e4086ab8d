"""`tsm-triton`: a bundle's model becomes a model of Triton Inference Server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tsm_runtime.commands.entry import command, new_app, run_command, version_option
from tsm_runtime.errors import UsageError
from tsm_runtime.terminal import warn

if TYPE_CHECKING:
    from tsm_export.triton.settings import Settings

# Imports of numpy and tritonclient wait until they are needed: --help answers at once.

app = new_app()


@command(app)
def tsm_triton(
    bundle: Annotated[Path, typer.Argument(help="bundle folder, as tsm-export writes it")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="model repository; other models in it stay as they are")
    ],
    name: Annotated[
        str | None, typer.Option(help="of the model on the server [default: the bundle folder's name]")
    ] = None,
    platform: Annotated[
        Literal["onnxruntime", "tensorrt"],
        typer.Option(help="what runs the model: its ONNX file, or its plan"),
    ] = "onnxruntime",
    precision: Annotated[
        Literal["fp32", "fp16", "int8"] | None, typer.Option(help="[default: fp32 on a CPU, fp16 on a GPU]")
    ] = None,
    device: Annotated[
        Literal["cpu", "gpu"] | None, typer.Option(help="[default: gpu for tensorrt, else cpu]")
    ] = None,
    batch: Annotated[
        str | None,
        typer.Option(
            help="numbers of clips, as 4,8, that are run without waiting for more requests"
            " [default: that for which a plan was built, else none]"
        ),
    ] = None,
    max_batch: Annotated[
        int | None,
        typer.Option(help="most clips that the server puts together [default: the plan's, else 8]", min=1),
    ] = None,
    delay: Annotated[
        int, typer.Option(help="microseconds that a clip waits for others to join its batch", min=0)
    ] = 2000,
    instances: Annotated[
        int, typer.Option(help="copies of the model that run at once, on each GPU or on the CPU", min=1)
    ] = 1,
    model_version: Annotated[
        int | None,
        typer.Option(
            help="number of the model's version; others stay, and Triton serves the highest [default: 1]",
            min=1,
        ),
    ] = None,
    version: Annotated[bool, version_option()] = False,
) -> None:
    """Write a bundle's model into a model repository of Triton Inference Server.

    A client needs no more than the server's address and the model's name: labels and clip length travel with
    the model.
    """
    from tsm_export.triton.repository import version_to_write, write_model
    from tsm_export.triton.settings import Request, check_name, choose_settings
    from tsm_runtime.bundle.bundle import load_bundle

    name = bundle.resolve().name if name is None else name
    check_name(name)
    if not output.parent.is_dir():
        raise UsageError(f"--output {output}: there is no folder {output.parent}")
    request = Request(
        name=name,
        version=version_to_write(output, name, model_version),
        platform=platform,
        device=device,
        precision=precision,
        max_batch=max_batch,
        preferred=None if batch is None else _sizes(batch),
        delay_microseconds=delay,
        instances=instances,
    )
    opened = load_bundle(bundle)
    settings = choose_settings(opened, request)
    others = write_model(opened, output, settings)
    _report(output, settings, others)
    for part, what in (
        ("temporal_head", "temporal head"),
        ("sound", "sound branch"),
        ("views", "joint model of views"),
    ):
        if getattr(opened.manifest, part) is not None:
            warn(
                f"the {what} of {opened.path} is not in the repository, as it needs a whole video: Triton"
                " serves the scores of the pictures alone; tsm-run and tsm-serve use it"
            )


def _report(repository: Path, settings: Settings, others: tuple[int, ...]) -> None:
    """Say what was written, what the server must be, and how to start it."""
    warn(
        f"{repository / settings.name}/{settings.version}: {settings.file} with {settings.platform} on the"
        f" {settings.device.upper()}, batches of up to {settings.max_batch}"
    )
    for note in settings.notes:
        warn(note)
    if any(other > settings.version for other in others):
        warn(f"version {max(others)} is there too, and Triton serves the highest")
    warn(f"start the server with: tritonserver --model-repository {repository.resolve()}")


def _sizes(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(f"--batch {text!r}: expected numbers of clips, as 4,8") from error


def main() -> None:
    """Run the command."""
    run_command(app, "tsm-triton")
