"""The weights of a stripped plan, put in from the ONNX file that it was built from."""

from __future__ import annotations

from typing import Any

from tsm_runtime.backends.tensorrt.library import Library, import_library
from tsm_runtime.backends.tensorrt.network import NO_FOLDER
from tsm_runtime.engines.logger import library_logger, listening, parser_words

__all__ = ["refit_engine"]


def refit_engine(engine: Any, onnx: bytes, *, library: Library = "tensorrt") -> None:
    """Put the weights of an ONNX file into a deserialised engine, before it gets an execution context.

    Args:
        engine: ICudaEngine of a plan that was built with `BuildOptions(stripped=True)`.
        onnx: the very file that the plan was built from (`EngineInfo.onnx_sha256`): the builder has taken
            its values into account, and with others the engine's results are undefined.
        library: whose engine it is.

    Raises:
        BackendError: the engine cannot be refitted, or weights are missing; in the library's own words.
    """
    trt = import_library(library)
    with listening(trt) as heard:
        try:
            refitter = trt.Refitter(engine, library_logger(trt))
        except TypeError as error:  # what the bindings make of a null pointer
            raise heard.error("cannot put weights into this engine") from error
        parser = trt.OnnxParserRefitter(refitter, library_logger(trt))
        if not parser.refit_from_bytes(onnx, NO_FOLDER) or parser.num_errors:
            raise heard.error("does not take the weights of the graph", parser_words(parser))
        missing = refitter.get_missing_weights()
        if missing:
            names = ", ".join(missing[:3])
            raise heard.error("misses weights", f"the graph has {len(missing)} too few ({names})")
        if not refitter.refit_cuda_engine():
            raise heard.error("does not put the weights in")
