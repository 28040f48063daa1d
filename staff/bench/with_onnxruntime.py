"""GPT-2 as a graph of ONNX, run by ONNX Runtime, which writes keys and values into buffers of the full length."""

import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from src.model.config import Config
from staff.bench.stepwise import Stepwise, read_weights


class ONNXRuntime(Stepwise):
    """ONNX Runtime's CPU provider. `dtype` is float32 or int8: dynamic quantization, one scale a channel."""

    def __init__(self, name: str, dtype: str):
        import onnx
        import onnxruntime

        super().__init__(name)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            onnx.save(_Graph(self.config, read_weights(self.config)).model(), path)
            if dtype == "int8":
                _quantize(path)
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def reset(self, batch: int) -> None:
        import onnxruntime

        config = self.config
        self._binding = self._session.io_binding()
        self._caches = []  # a binding does not keep its values alive
        for name in _caches(config):
            zeros = np.zeros((batch, config.n_head, config.n_positions, config.head_dim), np.float32)
            cache = onnxruntime.OrtValue.ortvalue_from_numpy(zeros)
            self._caches.append(cache)
            self._binding.bind_ortvalue_input(f"past_{name}", cache)
            self._binding.bind_ortvalue_output(f"present_{name}", cache)
        self._binding.bind_output("logits")

    def step(self, ids: NDArray[np.int64], past: int) -> NDArray[np.float32]:
        batch, new = ids.shape
        end = past + new
        inputs = {
            "ids": ids,
            "positions": np.arange(past, end),
            "lengths": np.full(batch, end - 1, np.int32),
            "total": np.array([end], np.int32),
        }
        for name, value in inputs.items():
            self._binding.bind_cpu_input(name, value)
        self._session.run_with_iobinding(self._binding)
        logits: NDArray[np.float32] = self._binding.get_outputs()[-1].numpy()[:, -1]
        return logits


def _quantize(path: Path) -> None:
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    logging.getLogger().setLevel(logging.ERROR)  # it advises a step that is not needed here
    quantize_dynamic(
        path, path, op_types_to_quantize=["MatMul"], per_channel=True, weight_type=QuantType.QInt8,
        extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
    )  # fmt: skip


def _caches(config: Config) -> list[str]:
    return [f"{kind}{i}" for i in range(config.n_layer) for kind in ("key", "value")]


class _Graph:
    def __init__(self, config: Config, weights: Mapping[str, NDArray[np.float32]]):
        import onnx

        self.onnx = onnx
        self.config, self.weights = config, weights
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def model(self) -> Any:
        config, helper, types = self.config, self.onnx.helper, self.onnx.TensorProto
        x = self._node("Add", self._embedding("wte.weight", "ids"), self._embedding("wpe.weight", "positions"))
        for i in range(config.n_layer):
            x = self._node("Add", x, self._attention(self._norm(x, f"h.{i}.ln_1"), i))
            wide = self._linear(self._norm(x, f"h.{i}.ln_2"), f"h.{i}.mlp.c_fc")
            x = self._node("Add", x, self._linear(self._node("Gelu", wide, approximate="tanh"), f"h.{i}.mlp.c_proj"))
        last = self._node("Gather", x, self._constant("last", np.array([-1])), axis=1)  # (B, 1, C)
        readout = self._constant("readout", self.weights["wte.weight"].T)
        self._node("MatMul", self._norm(last, "ln_f"), readout, outputs=["logits"])
        inputs = [
            helper.make_tensor_value_info("ids", types.INT64, ["B", "T"]),
            helper.make_tensor_value_info("positions", types.INT64, ["T"]),
            helper.make_tensor_value_info("lengths", types.INT32, ["B"]),
            helper.make_tensor_value_info("total", types.INT32, [1]),
        ]
        shape = ["B", config.n_head, "S", config.head_dim]
        inputs += [helper.make_tensor_value_info(f"past_{n}", types.FLOAT, shape) for n in _caches(config)]
        outputs = [helper.make_tensor_value_info(f"present_{n}", types.FLOAT, shape) for n in _caches(config)]
        outputs += [helper.make_tensor_value_info("logits", types.FLOAT, ["B", 1, config.vocab_size])]
        graph = helper.make_graph(self.nodes, "gpt2", inputs, outputs, self.constants)
        versions = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=versions, ir_version=10)

    def _attention(self, x: str, i: int) -> str:
        heads = {"num_heads": self.config.n_head, "kv_num_heads": self.config.n_head}
        inputs = [self._linear(x, f"h.{i}.attn.c_attn"), "", "", f"past_key{i}", f"past_value{i}", "lengths", "total"]
        outputs = [f"attention{i}", f"present_key{i}", f"present_value{i}"]
        y = self._node("GroupQueryAttention", *inputs, outputs=outputs, domain="com.microsoft", **heads)
        return self._linear(y, f"h.{i}.attn.c_proj")

    def _embedding(self, name: str, ids: str) -> str:
        return self._node("Gather", self._constant(name, self.weights[name]), ids)

    def _linear(self, x: str, name: str) -> str:
        weight, bias = (self._constant(n, self.weights[n]) for n in (f"{name}.weight", f"{name}.bias"))
        return self._node("Add", self._node("MatMul", x, weight), bias)

    def _norm(self, x: str, name: str) -> str:
        weight, bias = (self._constant(n, self.weights[n]) for n in (f"{name}.weight", f"{name}.bias"))
        epsilon = self.config.layer_norm_epsilon
        return self._node("LayerNormalization", x, weight, bias, axis=-1, epsilon=epsilon)

    def _constant(self, name: str, value: NDArray[Any]) -> str:
        self.constants.append(self.onnx.numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def _node(self, kind: str, *inputs: str, outputs: list[str] | None = None, **attributes: Any) -> str:
        outputs = outputs or [f"{kind}{len(self.nodes)}"]
        self.nodes.append(self.onnx.helper.make_node(kind, list(inputs), outputs, **attributes))
        return outputs[0]
