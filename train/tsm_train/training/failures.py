"""What can end a training from outside, as one message that names the next step."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from tsm_runtime.errors import RunError, TsmError
from tsm_train.config import Config
from tsm_train.training.run_folder import RunFolder

_DEAD_WORKER = re.compile(r"DataLoader worker .*?(killed by signal: [\w ]+|exited unexpectedly)", re.DOTALL)
_DEAD_PEER = re.compile(r"Connection closed by peer|NCCL|[Gg]loo|connection reset", re.IGNORECASE)


@contextmanager
def failures_as_errors(config: Config, output: RunFolder) -> Iterator[None]:
    """Turn what libraries raise in the block into the errors of this project.

    Raises:
        RunError: memory, a disk, a loading process or another process of the run gave out.
        KeyboardInterrupt: Lightning made a SystemExit of it.
    """
    try:
        yield
    except SystemExit as error:  # what Lightning makes of Ctrl-C, after it switched Ctrl-C off
        signal.signal(signal.SIGINT, signal.default_int_handler)
        raise KeyboardInterrupt from error
    except TsmError as error:
        if not str(error).startswith("Caught "):
            raise
        # Raised in a loading process: PyTorch puts that process's traceback in front of the message.
        raise type(error)(_last_words(str(error), error)) from error
    except torch.OutOfMemoryError as error:
        raise RunError(
            f"out of memory: lower train.batch_size (now {config.train.batch_size}), clip.size or"
            f" clip.num_frames\n{output.kept}"
        ) from error
    except OSError as error:
        what = f" {error.filename}" if error.filename else ""
        raise RunError(
            f"{output.path}: cannot go on:{what} {error.strerror or error}\n{output.kept}"
        ) from error
    except RuntimeError as error:
        raise _as_error(error, config, output) from error


def _as_error(error: RuntimeError, config: Config, output: RunFolder) -> Exception:
    text = str(error)
    if match := _DEAD_WORKER.search(text):
        return RunError(
            f"a data-loading process died ({match[1]}), most often for want of memory: lower"
            f" train.num_workers (now {config.train.num_workers}), then go on with --resume\n{output.kept}"
        )
    if _DEAD_PEER.search(text):
        return RunError(
            f"another process of this run ended; what it says is the cause"
            f" ({text.splitlines()[0]})\n{output.kept}"
        )
    return error


def _last_words(text: str, error: TsmError) -> str:
    r"""Return a message without the traceback before it.

    >>> _last_words("Caught RunError in DataLoader worker 0.\n  File x\na.b.RunError: gone", RunError())
    'gone'
    """
    return text.rpartition(f"{type(error).__name__}: ")[2].strip()
