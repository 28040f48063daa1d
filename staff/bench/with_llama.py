"""llama.cpp, through the server that the package xllamacpp runs within the process."""

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from src.model.config import Config, model_config
from staff.bench.own_process import Ticks
from staff.bench.stepwise import read_weights

SLOTS = 5  # texts at once
_TYPES = {"float32": "F32", "bfloat16": "BF16", "int8": "Q8_0"}
_NAMES = {  # the checkpoint's name of a layer → GGUF's
    "wte": "token_embd", "wpe": "position_embd", "ln_f": "output_norm", "ln_1": "attn_norm", "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output", "ln_2": "ffn_norm", "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down",
}  # fmt: skip


class Llama:
    """llama.cpp. `dtype` is float32, bfloat16, or int8: its q8_0, with a scale for each 32 weights."""

    slots = SLOTS

    def __init__(self, name: str, dtype: str):
        import xllamacpp

        self.config = model_config(name)
        params = xllamacpp.CommonParams()
        params.verbosity = 0
        params.n_parallel, params.n_ctx = self.slots, self.slots * self.config.n_positions
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = torch.get_num_threads()
        if dtype == "float32":
            params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32  # by default, float16
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.gguf"
            _write_gguf(self.config, _TYPES[dtype], path)
            params.model.path = str(path)
            self._server = xllamacpp.Server(params)

    def decode(self, prompts: Tensor, tokens: int, tick: Ticks) -> None:
        """Sample `tokens` tokens after the prompts.

        The server cannot wait between two tokens, so each block is a request of its own: for the prompts and as many
        random tokens as the blocks before had. The server still has the keys and values of the request before.
        """
        more = torch.randint(self.config.vocab_size, (len(prompts), tokens))
        texts = torch.cat((prompts, more), dim=1)
        for done in range(0, tokens, tick.block + 1):
            tick.report(self._seconds_a_step(texts[:, : prompts.size(1) + done].tolist(), tick.block + 1))

    def _seconds_a_step(self, texts: list[list[int]], tokens: int) -> float:
        """Seconds of a step in which each text gets a token. There are no more texts than slots: others would wait."""
        assert len(texts) <= self.slots
        ticks: list[float] = []

        def on_answer(answer: Any) -> None:
            # The package passes None for the first tokens of all but one text.
            if answer and answer["choices"][0]["index"] == 0:
                ticks.append(time.perf_counter())

        self._request({"prompt": texts, "max_tokens": tokens, "stream": True}, on_answer)
        *steps, _ = ticks  # the last message is a summary
        return (steps[-1] - steps[0]) / (len(steps) - 1)

    def logits(self, prompts: Tensor) -> NDArray[np.float32]:
        """Log-probabilities (B, V) of the token after the prompts: the server does not tell the logits."""
        rows = np.empty((len(prompts), self.config.vocab_size), np.float32)
        for row, ids in zip(rows, prompts.tolist(), strict=True):
            answers: list[Any] = []
            request = {"prompt": ids, "max_tokens": 1, "logprobs": self.config.vocab_size}
            self._request(request, answers.append)
            for entry in answers[0]["choices"][0]["logprobs"]["content"][0]["top_logprobs"]:
                row[entry["id"]] = entry["logprob"]
        return rows

    def _request(self, request: dict[str, Any], on_answer: Any) -> None:
        options = {"samplers": ["top_k"], "top_k": self.config.top_k, "temperature": 1.0, "ignore_eos": True}

        def go_on(answer: Any) -> bool:
            if answer and "error" in answer:
                raise RuntimeError(str(answer["error"]))
            on_answer(answer)
            return False

        self._server.handle_completions(request | options, go_on)


class Llama16(Llama):
    """The same for 16 texts at once, each with its own room in the cache."""

    slots = 16


def _write_gguf(config: Config, kind: str, path: Path) -> None:
    import gguf

    matrices = gguf.GGMLQuantizationType[kind]
    writer = gguf.GGUFWriter(path, "gpt2")
    writer.add_context_length(config.n_positions)
    writer.add_embedding_length(config.n_embd)
    writer.add_block_count(config.n_layer)
    writer.add_feed_forward_length(4 * config.n_embd)
    writer.add_head_count(config.n_head)
    writer.add_layer_norm_eps(config.layer_norm_epsilon)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    # Prompts are given as ids. Each token must be text of its own, because the server sends nothing before it has some.
    writer.add_token_list([f"{i}," for i in range(config.vocab_size)])
    writer.add_token_types([gguf.TokenType.NORMAL] * config.vocab_size)
    writer.add_token_merges(["0 1"])
    for name, tensor in read_weights(config).items():
        layer, part = name.rsplit(".", 1)
        block, layer = (
            (f"blk.{layer.split('.')[1]}.", layer.split(".", 2)[2]) if layer.startswith("h.") else ("", layer)
        )
        if layer not in _NAMES:
            continue  # a mask of the public checkpoint
        tensor = np.ascontiguousarray(tensor.T if ".c_" in name else tensor)
        is_matrix = tensor.ndim == 2 and layer != "wpe"
        new_name = f"{block}{_NAMES[layer]}.{part}"
        if is_matrix:
            writer.add_tensor(new_name, gguf.quants.quantize(tensor, matrices), raw_dtype=matrices)
        else:
            writer.add_tensor(new_name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
