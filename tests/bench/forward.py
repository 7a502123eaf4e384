"""Tokens per second of a forward pass with loss in PyTorch, f32, sdpa, for a model of SmolLM2-135M's shape (random weights:
speed does not depend on them).

    OMP_NUM_THREADS=2 python forward.py [TOKENS]          needs torch and transformers
"""
import statistics, sys, time
import torch
from transformers import LlamaConfig, LlamaForCausalLM

length = int(sys.argv[1]) if len(sys.argv) > 1 else 512
torch.set_num_threads(2)
config = LlamaConfig(vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
                     num_key_value_heads=3, max_position_embeddings=8192, tie_word_embeddings=True, attn_implementation="sdpa")
model = LlamaForCausalLM(config).eval()
ids = torch.tensor([[i * 7919 % 49152 for i in range(1, length + 1)]])
times = []
with torch.no_grad():
    for i in range(7):
        before = time.perf_counter()
        model(ids, labels=ids)
        times.append(time.perf_counter() - before)
print(f"PyTorch {torch.__version__} f32 sdpa: {length / statistics.median(times[2:]):.0f} tokens/s")
