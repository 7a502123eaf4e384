"""Tokens per second of a training step (loss, backward, AdamW) of a GPT-2 of 6 layers, 384 wide, at context 256, in PyTorch eager, f32;
and the memory at the peak.

    OMP_NUM_THREADS=2 python train.py [BATCH [VOCABULARY [STEPS]]]          needs torch and transformers
"""
import os, resource, statistics, sys, time
import torch
from transformers import GPT2Config, GPT2LMHeadModel

batch, vocabulary, steps = (int(x) for x in (sys.argv[1:] + ["8", "50257", "12"][len(sys.argv) - 1:]))
context = 256
clock = time.process_time if os.getenv("CPU_TIME") else time.perf_counter
torch.set_num_threads(int(os.getenv("OMP_NUM_THREADS", "2")))
torch.manual_seed(0)
config = GPT2Config(n_layer=6, n_head=6, n_embd=384, n_positions=context, vocab_size=vocabulary, resid_pdrop=0, embd_pdrop=0,
                    attn_pdrop=0, bos_token_id=0, eos_token_id=0, attn_implementation="sdpa", use_cache=False)
model = GPT2LMHeadModel(config).train()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
ids = torch.tensor([[(b * 7919 + t * 104729) % vocabulary for t in range(1, context + 1)] for b in range(1, batch + 1)])
parts, seconds = {"forward": [], "backward": [], "step": []}, []
for i in range(steps + 2):
    start = clock()
    loss = model(ids, labels=ids).loss
    middle = clock()
    loss.backward()
    end = clock()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1e9)
    optimizer.step()
    optimizer.zero_grad()
    done = clock()
    if i > 1:
        seconds.append(done - start)
        for part, taken in zip(parts, (middle - start, end - middle, done - end)):
            parts[part].append(taken)
median = statistics.median
print(f"PyTorch {torch.__version__}: {batch * context / median(seconds):.0f} tokens/s, best {batch * context / min(seconds):.0f} (median "
      f"{median(seconds):.3f} s a step: forward {median(parts['forward']):.3f}, backward {median(parts['backward']):.3f}, AdamW "
      f"{median(parts['step']):.3f}); peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6:.0f} MB; loss {loss.item():.4f}")
