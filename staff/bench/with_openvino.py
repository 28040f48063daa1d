"""GPT-2 as a graph of OpenVINO, whose state is the cache of keys and values."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from src.model.config import Config
from staff.bench.stepwise import Stepwise, read_weights


class OpenVINO(Stepwise):
    """OpenVINO's CPU plugin. `dtype` is float32, bfloat16, or int8: weights in int8, one scale a row."""

    def __init__(self, name: str, dtype: str):
        import openvino

        super().__init__(name)
        precision = "bf16" if dtype == "bfloat16" else "f32"
        options: dict[str, Any] = {"INFERENCE_PRECISION_HINT": precision, "NUM_STREAMS": 1}
        options["INFERENCE_NUM_THREADS"] = torch.get_num_threads()
        if dtype == "float32":
            options["KV_CACHE_PRECISION"] = "f32"  # by default, the cache is int8
        model = _Graph(self.config, read_weights(self.config), dtype == "int8").model()
        compiled = self._compiled = openvino.Core().compile_model(model, "CPU", options)
        chosen = compiled.get_property("INFERENCE_PRECISION_HINT")
        if chosen != (openvino.Type.bf16 if precision == "bf16" else openvino.Type.f32):
            raise RuntimeError(f"OpenVINO computes in {chosen} on this processor")

    def reset(self, batch: int) -> None:
        # A request whose state is reset computes nan if its next batch is larger.
        self._request = self._compiled.create_infer_request()

    def step(self, ids: NDArray[np.int64], past: int) -> NDArray[np.float32]:
        batch, new = ids.shape
        end = past + new
        seen = np.arange(end) <= np.arange(past, end)[:, None]  # (T, S)
        # One mask for all texts would do, but with it, bfloat16 is wrong for all but the first.
        mask = np.tile(np.where(seen, np.float32(0), np.float32(-np.inf)), (batch, 1, 1, 1))
        outputs = self._request.infer([ids, np.arange(past, end), mask, np.arange(batch, dtype=np.int32)])
        logits: NDArray[np.float32] = outputs[0][:, -1]
        return logits


class _Graph:
    def __init__(self, config: Config, weights: Mapping[str, NDArray[np.float32]], int8: bool):
        import openvino.opset6
        import openvino.opset13

        self.openvino: Any = openvino
        self.op: Any = openvino.opset13
        self.read_value, self.assign = openvino.opset6.read_value, openvino.opset6.assign
        self.config, self.weights, self.int8 = config, weights, int8
        self.assigned: list[Any] = []

    def model(self) -> Any:
        openvino = self.openvino
        op, config, weights = self.op, self.config, self.weights
        ids = op.parameter([-1, -1], openvino.Type.i64, "ids")  # (B, T)
        positions = op.parameter([-1], openvino.Type.i64, "positions")  # (T,)
        self.mask = op.parameter([-1, 1, -1, -1], openvino.Type.f32, "mask")  # (B, 1, T, S)
        # The plugin keeps the cache in place if it knows this pattern, in which beams could be reordered.
        self.beams = op.parameter([-1], openvino.Type.i32, "beams")  # (B,)
        zero = op.constant(0)
        batch = op.gather(op.shape_of(ids, "i64"), op.constant([0]), zero)
        nothing = op.concat([batch, op.constant(np.array([config.n_head, 0, config.head_dim]))], 0)
        self.empty = op.broadcast(op.constant(np.float32(0)), nothing)  # (B, nh, 0, hd)
        tokens = op.gather(op.constant(weights["wte.weight"]), ids, zero)
        x = op.add(tokens, op.gather(op.constant(weights["wpe.weight"]), positions, zero))
        for i in range(config.n_layer):
            x = op.add(x, self._attention(self._norm(x, f"h.{i}.ln_1"), i))
            wide = op.gelu(self._linear(self._norm(x, f"h.{i}.ln_2"), f"h.{i}.mlp.c_fc"), "tanh")
            x = op.add(x, self._linear(wide, f"h.{i}.mlp.c_proj"))
        last = op.gather(x, op.constant([-1]), op.constant(1))  # (B, 1, C)
        logits = self._product(self._norm(last, "ln_f"), weights["wte.weight"])
        inputs = [ids, positions, self.mask, self.beams]
        return openvino.Model([op.result(logits)], self.assigned, inputs, "gpt2")

    def _attention(self, x: Any, i: int) -> Any:
        op, n_head, head_dim = self.op, self.config.n_head, self.config.head_dim
        parts = op.split(self._linear(x, f"h.{i}.attn.c_attn"), op.constant(2), 3).outputs()
        heads, order = op.constant([0, 0, n_head, head_dim]), op.constant([0, 2, 1, 3])
        query, key, value = (op.transpose(op.reshape(part, heads, True), order) for part in parts)  # (B, nh, T, hd)
        key, value = self._appended(f"key{i}", key), self._appended(f"value{i}", value)  # (B, nh, S, hd)
        y = op.transpose(op.scaled_dot_product_attention(query, key, value, self.mask), order)
        y = op.reshape(y, op.constant([0, 0, n_head * head_dim]), True)
        return self._linear(y, f"h.{i}.attn.c_proj")

    def _appended(self, name: str, new: Any) -> Any:
        op = self.op
        shape = self.openvino.PartialShape([-1, self.config.n_head, -1, self.config.head_dim])
        read = self.read_value(self.empty, name, self.openvino.Type.f32, shape)
        past = op.gather(read, self.beams, op.constant(0))
        both = op.concat([past, new], 2)
        self.assigned.append(self.assign(both, name))
        return both

    def _norm(self, x: Any, name: str) -> Any:
        op = self.op
        y = op.mvn(x, op.constant(np.array([-1])), True, self.config.layer_norm_epsilon, "inside_sqrt")
        scaled = op.multiply(y, op.constant(self.weights[f"{name}.weight"]))
        return op.add(scaled, op.constant(self.weights[f"{name}.bias"]))

    def _linear(self, x: Any, name: str) -> Any:
        y = self._product(x, self.weights[f"{name}.weight"].T)
        return self.op.add(y, self.op.constant(self.weights[f"{name}.bias"]))

    def _product(self, x: Any, weight: NDArray[np.float32]) -> Any:
        """(B, T, in) -> (B, T, out), with `weight` (out, in)."""
        op = self.op
        if self.int8:
            scale = np.abs(weight).max(axis=1, keepdims=True) / 127
            rounded = op.convert(op.constant(np.round(weight / scale).astype(np.int8)), "f32")
            return op.matmul(x, op.multiply(rounded, op.constant(scale)), False, True)
        return op.matmul(x, op.constant(np.ascontiguousarray(weight)), False, True)
