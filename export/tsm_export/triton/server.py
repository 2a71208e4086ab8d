"""A running Triton server: its models, their configuration, and its errors as exceptions of this package."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tsm_export.triton.model_config import PARAMETER, Served, read_served, triton_client
from tsm_runtime.errors import BackendError, UsageError

Answered = Callable[[Any, Any], None]
"""Called from a thread of gRPC with a result or None, and an error or None."""

_ADDRESS = re.compile(r"(?:(grpcs?)://)?([^/:\s]+|\[[0-9a-fA-F:.]+\]):(\d{1,5})/?")
_LONGEST_WORDS = 300
"""Characters of a server's own words that are shown."""


class TritonServer:
    """A connection to the gRPC endpoint of a running Triton server. For one thread.

    Args:
        address: `host:port`; `grpcs://host:port` for TLS.
        timeout_seconds: of each request.

    Raises:
        UsageError: the address is of another form.
        BackendError: tritonclient is not installed, or no Triton server answers there.
    """

    def __init__(self, address: str, *, timeout_seconds: float = 60.0) -> None:
        parts = _ADDRESS.fullmatch(address)
        if parts is None:
            raise UsageError(
                f"server {address!r}: expected HOST:PORT of Triton's gRPC endpoint, as localhost:8001, or"
                " grpcs://HOST:PORT for TLS"
            )
        self.address = address
        self._timeout_seconds = timeout_seconds
        self._module = triton_client()
        self._client = self._module.InferenceServerClient(f"{parts[2]}:{parts[3]}", ssl=parts[1] == "grpcs")
        self.version = self._first_answer()

    def _first_answer(self) -> str:
        try:
            return str(self._client.get_server_metadata(client_timeout=self._timeout_seconds).version)
        except self._module.InferenceServerException as error:
            self.close()
            raise BackendError(
                f"{self.address}: no Triton server answers there ({words(error)}); is one running, and is"
                " this its gRPC port (8001 by default)?"
            ) from error

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def model_config(self, model: str, version: str = "") -> Any:
        """Return a model's `ModelConfig`; version "": of the one that the server chooses.

        Raises:
            BackendError: the server has no such model or version, or it is not ready.
        """
        try:
            answer = self._client.get_model_config(model, version, client_timeout=self._timeout_seconds)
        except self._module.InferenceServerException as error:
            raise BackendError(
                f"{self.address} gives no model {model!r}: {words(error)}{self._others()}"
            ) from error
        return answer.config

    def _others(self) -> str:
        """Return a remark that lists the models of the server, if it lists them."""
        try:
            index = self._client.get_model_repository_index(client_timeout=self._timeout_seconds)
        except self._module.InferenceServerException:
            return ""
        names = sorted({model.name for model in index.models if model.state == "READY"})
        return f"; it serves {', '.join(names) or 'no model'}"

    def served(self, model: str, config: Any) -> Served | None:
        """Return what `tsm-triton` wrote into a model's configuration; None where it did not write it.

        Raises:
            BackendError: it cannot be read.
        """
        if PARAMETER not in config.parameters:
            return None
        try:
            return read_served(config.parameters[PARAMETER].string_value)
        except ValueError as error:
            raise BackendError(
                f"{self.address}: model {model!r}: its parameter {PARAMETER} is {error}"
            ) from error

    def signature(self, config: Any) -> dict[str, tuple[str, list[int]]]:
        """Return data type and dimensions of a model's inputs and outputs, as `model_config.signature`."""
        kind = self._module.model_config_pb2.DataType.Name
        return {
            tensor.name: (kind(tensor.data_type), list(tensor.dims))
            for tensor in (*config.input, *config.output)
        }

    def send(
        self,
        model: str,
        version: str,
        frames: npt.NDArray[np.uint8],
        outputs: Sequence[str],
        answered: Answered,
    ) -> Any:
        """Send a (N, T, size, size, 3) batch and return at once; the returned call has a `cancel()`.

        Raises:
            BackendError: it could not even be sent.
        """
        given = self._module.InferInput("frames", list(frames.shape), "UINT8")
        given.set_data_from_numpy(frames)
        try:
            return self._client.async_infer(
                model,
                [given],
                answered,
                model_version=version,
                outputs=[self._module.InferRequestedOutput(name) for name in outputs],
                client_timeout=self._timeout_seconds,
            )
        except self._module.InferenceServerException as error:
            raise BackendError(
                f"{self.address}: model {model!r} cannot be requested: {words(error)}"
            ) from error


def words(error: Any) -> str:
    """Return the message of an error of the server or gRPC, on one line."""
    return " ".join(str(error.message()).split())[:_LONGEST_WORDS]
