"""Writes what TensorRT's Python bindings offer, read off the bindings themselves, as JSON.

The bindings of TensorRT proper link libraries that are not on PyPI. Nothing here calls into them, so empty
libraries of the same names, made with the C compiler, are enough to import the module and read its
docstrings, which pybind11 fills with every signature. In this folder:

    pip install --no-deps --target B10 tensorrt-cu13-bindings==10.16.1.11
    python introspect.py B10 > tensorrt-10.16.1.11.json
    python introspect.py tensorrt_rtx > tensorrt_rtx-1.7.1.116.json

Only the classes that a program meets which builds, inspects and runs engines are kept; kinds of layers but
convolutions, plug-ins and the layer functions of a network but casts are left out.
"""

from __future__ import annotations

import ctypes
import importlib
import inspect
import json
import re
import subprocess
import sys
import tempfile
import warnings
from importlib import metadata
from pathlib import Path
from typing import Any

SYMBOLS = (
    "createInferBuilder_INTERNAL",
    "createInferRefitter_INTERNAL",
    "createInferRuntime_INTERNAL",
    "createNvOnnxParserRefitter_INTERNAL",
    "createNvOnnxParser_INTERNAL",
    "getBuilderPluginRegistry",
    "getNvOnnxParserVersion",
    "getPluginRegistry",
    "initLibNvInferPlugins",
)
"""All that the bindings take from TensorRT's libraries."""

CLASSES = (
    "Builder",
    "Dims",
    "EngineInspector",
    "IBuilderConfig",
    "IConvolutionLayer",
    "ICudaEngine",
    "IExecutionContext",
    "IHostMemory",
    "ILayer",
    "ILogger",
    "INetworkDefinition",
    "IOptimizationProfile",
    "IProgressMonitor",
    "IRuntimeCache",
    "IRuntimeConfig",
    "ISerializationConfig",
    "ITensor",
    "ITimingCache",
    "Logger",
    "OnnxParser",
    "OnnxParserRefitter",
    "ParserError",
    "Refitter",
    "Runtime",
)
ENUMS = (
    "BuilderFlag",
    "ComputeCapability",
    "CudaGraphStrategy",
    "DataType",
    "DynamicShapesKernelSpecializationStrategy",
    "EngineCapability",
    "EngineInvalidityDiagnostics",
    "EngineStat",
    "EngineValidity",
    "ErrorCode",
    "ExecutionContextAllocationStrategy",
    "HardwareCompatibilityLevel",
    "ILogger.Severity",
    "LayerInformationFormat",
    "LayerType",
    "MemoryPoolType",
    "NetworkDefinitionCreationFlag",
    "OnnxParserFlag",
    "PreviewFeature",
    "ProfilingVerbosity",
    "SerializationFlag",
    "TacticSource",
    "TensorFormat",
    "TensorIOMode",
    "TensorLocation",
    "TilingOptimizationLevel",
)
SPECIAL = ("__init__", "__len__", "__getitem__")
"""Methods with underscores that are part of what a program uses."""


def main(source: str) -> None:
    """Print the contract of an installed module, or of the bindings in a folder that pip filled."""
    folder = Path(source)
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as libraries:
        warnings.simplefilter("ignore")  # the bindings warn about their own plug-in classes
        if folder.is_dir():
            module = import_bindings(folder, Path(libraries))
        else:
            module = importlib.import_module(source)
        print(encode(describe(module, "tensorrt" if folder.is_dir() else source)))  # noqa: T201


def import_bindings(folder: Path, libraries: Path) -> Any:
    """Import `tensorrt_bindings` from a folder, with empty libraries in the place of TensorRT's."""
    (found,) = metadata.distributions(name="tensorrt-cu13-bindings", path=[str(folder)])
    major = found.version.split(".")[0]
    code = "".join(f"void *{symbol}(void) {{ return 0; }}\n" for symbol in SYMBOLS)
    for name in ("nvinfer", "nvinfer_plugin", "nvonnxparser"):
        library = libraries / f"lib{name}.so.{major}"
        subprocess.run(
            ["cc", "-shared", "-fPIC", "-x", "c", "-", f"-Wl,-soname,{library.name}", "-o", library],
            input=code.encode(),
            check=True,
        )
        # The loader takes a library that is there under this name for the one that the bindings ask for.
        ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)
    sys.path.insert(0, str(folder))
    return importlib.import_module("tensorrt_bindings")


def describe(module: Any, name: str) -> dict[str, Any]:
    """Return the contract of a module.

    A class is the list of what it has, a line each: `name(argument: type = default) -> type` for each
    signature of a method, `name: type` or `name: type, settable` for a property, `name = value` for a
    constant.
    """
    return {
        "module": name,
        "version": module.__version__,
        "enums": {path: _enum(_find(module, path)) for path in ENUMS if _find(module, path)},
        "bases": {path: _base(_find(module, path)) for path in CLASSES if _base(_find(module, path))},
        "classes": {path: _members(_find(module, path)) for path in CLASSES if _find(module, path)},
    }


def encode(contract: dict[str, Any]) -> str:
    """Return the text of the stored file."""
    return json.dumps(contract, indent=1)


def _find(module: Any, path: str) -> Any:
    found = module
    for part in path.split("."):
        found = getattr(found, part, None)
    return found


def _enum(enum: Any) -> str:
    return ", ".join(f"{name} = {int(value)}" for name, value in enum.__members__.items())


def _base(described: Any) -> str:
    return next(
        (base.__name__ for base in getattr(described, "__bases__", ()) if base.__name__ in CLASSES), ""
    )


def _members(described: Any) -> list[str]:
    lines = []
    for name in sorted(vars(described)):
        member = inspect.getattr_static(described, name)
        layer = described.__name__ == "INetworkDefinition" and re.match("add_(?!cast)", name)
        if layer or (name.startswith("_") and name not in SPECIAL):
            continue
        if isinstance(member, property):
            lines.append(f"{name}: {_property(member)}")
        elif type(member).__name__ == "Severity":
            lines.append(f"{name} = {int(member)}")
        else:
            lines += [name + signature for signature in _signatures(name, member.__doc__ or "")]
    return lines


def _signatures(name: str, doc: str) -> list[str]:
    """Return the signatures in a docstring, without the object itself.

    >>> _signatures("f", "f(self: tensorrt_bindings.tensorrt.Dims, a: int) -> bool")
    ['(a: int) -> bool']
    """
    found = re.findall(rf"^(?:\d+\. )?{name}\((?:self|arg0): [^,)]*(?:, )?(.*)$", doc, re.MULTILINE)
    return [_plain(f"({rest}") for rest in found]


def _property(found: property) -> str:
    _, _, kind = (found.fget.__doc__ or "").strip().rpartition(" -> ")
    return (_plain(kind) or "object") + (", settable" if found.fset is not None else "")


def _plain(signature: str) -> str:
    """Leave the names of modules and namespaces out; they differ between the libraries and say nothing.

    >>> _plain("(flag: tensorrt_bindings.tensorrt.Flag = <Flag.A: 0>) -> nvinfer1::v_1_0::ILogger")
    '(flag: Flag = Flag.A) -> ILogger'
    """
    without = re.sub(
        r"(tensorrt(_rtx)?_bindings\.tensorrt(_rtx)?|typing(_extensions)?|collections\.abc)\.", "", signature
    )
    without = re.sub(r"\bnv\w+::(v_\d_\d::)?", "", without)
    return re.sub(r"<([\w.]+): -?\d+>", r"\1", without)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"{sys.argv[0]}: one argument: a folder with tensorrt-cu13-bindings, or a module's name")
    main(sys.argv[1])
