"""What transformers computes with a checkpoint folder: its logits, and whether it misses or does not know any tensor.

    python read_checkpoint.py FOLDER IDS OUT.safetensors        IDS: numbers with commas between
"""
import sys
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

folder, ids, out = sys.argv[1:]
model, about = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True, dtype=torch.float32, attn_implementation="eager")
for what in ("missing_keys", "unexpected_keys", "mismatched_keys"):
    if about[what]:
        sys.exit(f"{what}: {about[what]}")
with torch.no_grad():
    logits = model.eval()(torch.tensor([[int(i) for i in ids.split(",")]])).logits
save_file({"logits": logits.contiguous()}, out)
