"""GPT-2: its configuration, tokens, weights and layers. Independent of any homework.

config      config.yml, validated
codec       text to token ids and back
checkpoint  the model's files, found or downloaded, verified and loaded
gpt2        the model
kv_cache    the keys and values computed so far, and attention over them
onednn      faster linear layers on a CPU
threads     how PyTorch's threads share a busy machine
"""
