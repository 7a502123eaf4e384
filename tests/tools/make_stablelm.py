"""A tiny random StableLM and what transformers gives for it: the family that lua/README.md adds from a script.

    python make_stablelm.py FOLDER          needs torch, transformers and safetensors
"""
import os, sys
import torch
from safetensors.torch import save_file
from transformers import StableLmConfig, StableLmForCausalLM

torch.manual_seed(5)
folder = sys.argv[1]
config = StableLmConfig(vocab_size=64, hidden_size=32, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4,
                        num_key_value_heads=2, max_position_embeddings=64, use_qkv_bias=True, attn_implementation="eager",
                        bos_token_id=1, eos_token_id=2, rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.25})
model = StableLmForCausalLM(config).eval()
with torch.no_grad():
    for name, p in model.named_parameters():
        p.copy_(torch.randn_like(p) * (0.3 if "norm" in name else 0.25) + (1 if name.endswith("norm.weight") else 0))
ids = torch.tensor([[1, 17, 5, 33, 60, 2, 9, 41, 8, 25, 3]])
with torch.no_grad():
    out = model(ids, output_hidden_states=True, labels=ids)
model.save_pretrained(folder)
os.remove(os.path.join(folder, "generation_config.json"))
save_file({"input_ids": ids[0], "logits": out.logits[0].contiguous(), "loss": out.loss.reshape(1),
           "layer0": out.hidden_states[1][0].contiguous()}, os.path.join(folder, "expected.safetensors"))
