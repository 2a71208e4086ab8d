"""Training from the page: tsm-train and tsm-export as child processes, one run at a time."""

from __future__ import annotations

import csv
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Literal

from tsm_runtime.errors import UsageError
from tsm_serve.review.drafting import Publish
from tsm_serve.review.training_config import Kind, TrainingConfig
from tsm_serve.review.truth import TruthFile

Stage = Literal["idle", "training", "exporting", "done", "failed", "stopped"]

_HEAD_ONLY = "--head-only"
_LOG_LINES = 400
_LOOK_SECONDS = 1.0
_PATIENCE_SECONDS = 20.0
"""Between the request to stop, after which training stores its state, and the end of the process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingState:
    """Progress of a training.

    Args:
        stage: current stage.
        kind: kind of the training.
        epoch: epochs that are done, of `epochs`; 0 where the configuration does not state them.
        metrics: of the last validated epoch, by the name of tsm-train.
        log: last lines of the child processes.
        error: reason of a failure.
        note: limitation of the figures.
    """

    stage: Stage = "idle"
    kind: str = ""
    epoch: int = 0
    epochs: int = 0
    metrics: dict[str, float]
    log: list[str]
    error: str = ""
    note: str = ""


class Training:
    """Trains on the videos that are done, exports, and passes on the bundle.

    Args:
        truth: the annotations.
        videos: folder of the videos.
        folder: gets runs and bundles.
        publish: gets events.
        on_bundle: called with the new bundle.
        config: TOML whose sections other than `[data]` are used; None: those of this module.
        commands: how the child processes are started.
    """

    def __init__(
        self,
        truth: TruthFile,
        videos: Path,
        folder: Path,
        publish: Publish,
        on_bundle: Callable[[Path], None],
        *,
        config: Path | None = None,
        commands: tuple[list[str], list[str]] | None = None,
    ) -> None:
        self._truth, self._videos, self._folder = truth, videos, folder
        self._publish, self._on_bundle, self._config = publish, on_bundle, config
        self.commands = commands or (
            _command("tsm_train.commands.train"),
            _command("tsm_export.commands.export"),
        )
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._stage: Stage = "idle"
        self._stopping = False
        self._kind: Kind = "quick"
        self._epochs = 0
        self._is_head_only = False
        self._run = folder
        self._error = self._note = ""
        self._log: deque[str] = deque(maxlen=_LOG_LINES)

    def state(self) -> TrainingState:
        """Return the progress of the training."""
        epoch, metrics = _last_row(self._run / "metrics.csv") if self._stage != "idle" else (0, {})
        with self._lock:
            return TrainingState(
                stage=self._stage,
                kind=self._kind,
                epoch=epoch,
                epochs=self._epochs,
                metrics=metrics,
                log=list(self._log),
                error=self._error,
                note=self._note,
            )

    def start(self, kind: Kind) -> None:
        """Begin a training.

        Raises:
            UsageError: one runs already, or no video is done.
            RunError: the configuration cannot be written.
        """
        with self._lock:
            if self._stage in ("training", "exporting"):
                raise UsageError("a training runs already; stop it first")
            subsets = self._done_subsets()
            if "training" not in subsets:
                raise UsageError("no video is done and used for training; finish one first (Enter)")
            self._kind, self._error, self._stopping = kind, "", False
            self._note = (
                ""
                if "validation" in subsets
                else "No video is used for validation: the scores are those of the training videos."
            )
            self._log.clear()
            self._run = self._new_run()
            name = self._run.name
            config = self._write_config(name, kind, subsets)
            self._stage = "training"
        threading.Thread(target=self._work, args=(config, name), name="training", daemon=True).start()

    def stop(self) -> None:
        """End the training; nothing happens where none runs."""
        with self._lock:
            self._stopping = True
            process = self._process
        if process is None:
            return
        process.send_signal(signal.SIGINT)
        try:
            process.wait(_PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()

    # --- parts --------------------------------------------------------------------------------------

    def _done_subsets(self) -> Counter[str]:
        """Count the videos of each subset."""
        entries = (self._truth.entry(video_id) or {} for video_id in self._truth.video_ids)
        return Counter(str(entry.get("subset")) for entry in entries)

    def _new_run(self) -> Path:
        name = time.strftime("%Y%m%d-%H%M%S")
        while (self._folder / "configs" / f"{name}.toml").exists():
            name += "a"
        return self._folder / "runs" / name

    def _previous(self) -> Path | None:
        """Return the weights of the last run, from which the next one starts."""
        found = sorted(self._folder.glob("runs/*/best.safetensors"))
        return found[-1] if found else None

    def _write_config(self, name: str, kind: Kind, subsets: Counter[str]) -> Path:
        """Write the configuration of a run, and keep its number of epochs."""
        path = self._folder / "configs" / f"{name}.toml"
        config = TrainingConfig(
            name=name,
            kind=kind,
            annotations=self._truth.path,
            videos=self._videos,
            num_training=subsets["training"],
            num_validation=subsets["validation"],
            previous=self._previous(),
            user_config=self._config,
        )
        config.write(path)
        self._is_head_only, self._epochs = config.is_head_only, config.epochs
        return path

    def _work(self, config: Path, name: str) -> None:
        bundle = self._folder / "bundles" / name
        train, export = self.commands
        try:
            more = [_HEAD_ONLY] if self._is_head_only else []
            if self._call([*train, str(config), "--output", str(self._run.parent), *more]):
                self._set("exporting")
                bundle.parent.mkdir(parents=True, exist_ok=True)
                checkpoint = str(self._run / "best.safetensors")
                if self._call([*export, checkpoint, "--output", str(bundle), "--target", "onnx"]):
                    self._on_bundle(bundle)
                    self._set("done")
        except Exception as error:  # the page shows it
            self._set("failed", f"{type(error).__name__}: {error}")

    def _call(self, command: list[str]) -> bool:
        """Run a child process to its end and log its lines; return whether it succeeded."""
        with self._lock:
            if self._stopping:
                return False
            self._process = process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,
            )
        assert process.stdout is not None
        reading = threading.Thread(target=self._read, args=(process.stdout,), daemon=True)
        reading.start()
        while process.poll() is None:
            self._publish({"kind": "training"})
            reading.join(_LOOK_SECONDS)
            if not reading.is_alive():
                process.wait()
        reading.join()
        process.stdout.close()
        with self._lock:
            self._process = None
        if self._stopping:
            self._set("stopped")
        elif process.returncode:
            self._set("failed", self._log[-1] if self._log else f"exit code {process.returncode}")
        return not process.returncode and not self._stopping

    def _read(self, stream: IO[str]) -> None:
        for line in stream:
            with self._lock:
                self._log.append(line.rstrip())

    def _set(self, stage: Stage, error: str = "") -> None:
        with self._lock:
            self._stage, self._error = stage, error
        self._publish({"kind": "training"})


def _command(module: str) -> list[str]:
    """Return the command line of a command under this interpreter."""
    return [sys.executable, "-c", f"from {module} import main; main()"]


def state_as_json(state: TrainingState) -> dict[str, Any]:
    """Return a state as a JSON object."""
    return asdict(state)


def _last_row(path: Path) -> tuple[int, dict[str, float]]:
    """Return the epochs that metrics.csv holds, and the scores of the last one that has any."""
    try:
        rows = list(csv.DictReader(path.read_text("utf-8").splitlines()))
    except OSError:
        return 0, {}
    epoch = int(float(rows[-1]["epoch"])) if rows else 0
    for row in reversed(rows):
        if row.get("map"):
            return epoch, {key: float(value) for key, value in row.items() if value and _is_score(key)}
    return epoch, {}


def _is_score(key: str) -> bool:
    return key.startswith(("map", "scene_top1", "head_"))
