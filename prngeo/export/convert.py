"""From a torch module to the bytes of an ONNX file."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from prngeo.models.onnx_runtime import missing_onnx

Precision = Literal["fp32", "fp16"]
OPSET = 18


def to_onnx(
    module: nn.Module,
    inputs: Mapping[str, Tensor],
    outputs: list[str],
    precision: Precision,
    metadata: Mapping[str, str] | None = None,
    *,
    dynamic_batch: bool = True,
) -> bytes:
    """Export a module for inference.

    Args:
        module: its forward takes the inputs in their order.
        inputs: example tensors by name; all their sizes but the first are fixed in the graph.
        outputs: names of what it returns.
        precision: how weights are stored. fp16 nearly halves the file and rounds nothing, because only weights that
            float16 holds exactly are stored so, as those of a bundle are; a graph computes in float32 either way.
        metadata: custom metadata of the file.
        dynamic_batch: whether the first size of every tensor is left open.

    Raises:
        UsageError: onnx or onnxscript is not installed.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401  (torch's exporter needs it)
        from onnx_ir.passes.common import NameFixPass
    except ImportError as error:
        raise missing_onnx(error) from error
    batch = {0: torch.export.Dim("batch")}
    with warnings.catch_warnings(), torch.inference_mode(False), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module.eval(),
            tuple(inputs.values()),
            input_names=list(inputs),
            output_names=outputs,
            opset_version=OPSET,
            dynamic_shapes=tuple(batch for _ in inputs) if dynamic_batch else None,
            dynamo=True,
            optimize=precision == "fp32",  # it would fold batch norms into weights that float16 no longer holds
            verbose=False,
        )
    assert program is not None
    NameFixPass()(program.model)  # a buffer and an operation of the same name
    model = program.model_proto
    for part in (*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output):
        del part.metadata_props[:]  # the exporter's stack traces, with paths of this machine
    if precision == "fp16":
        _halve(model)
    for key, value in (metadata or {}).items():
        model.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content


def _halve(model: Any) -> None:
    """Store weights that float16 holds exactly as float16, each with a cast that runtimes fold when they load it."""
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for weight in model.graph.initializer:
        values = numpy_helper.to_array(weight)
        if values.dtype != np.float32 or not np.array_equal(values.astype(np.float16).astype(np.float32), values):
            continue
        name = weight.name
        weight.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}.half"))
        casts.append(helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
