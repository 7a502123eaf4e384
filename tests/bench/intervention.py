"""The paper's intervention_analysis as its code computes it, in PyTorch (eager attention, f32, 2 threads): detection over the
calibration windows, detection over the evaluation windows, then one pass over these for the original and each intervention.

    OMP_NUM_THREADS=2 python intervention.py MODEL.gguf TOKENIZER.json EVALUATION.txt CALIBRATION.txt

The windows are those of `massact run experiments/intervention.lua --context_length 512 --windows 32 --calibration_windows 16
--mean_windows 32`; time both as processes, one after the other.  Needs torch, transformers and gguf.
"""
import math, os, sys, time
import torch
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

LENGTH, WINDOWS, CALIBRATION, MEANS, BOS = 512, 32, 16, 32, 1
torch.set_num_threads(2)
began = time.perf_counter()
folder, file = os.path.split(os.path.abspath(sys.argv[1]))
model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype=torch.float32, attn_implementation="eager").eval()
tokenizer = PreTrainedTokenizerFast(tokenizer_file=sys.argv[2])
layers = model.model.layers
print(f"loaded after {time.perf_counter() - began:.1f} s", flush=True)


def windows(path, n):
    ids = tokenizer(open(path, encoding="utf-8").read(), add_special_tokens=False).input_ids
    return [torch.tensor([[BOS] + ids[i * LENGTH:(i + 1) * LENGTH - 1]]) for i in range(n)]


def hidden_states(window):
    """Every layer's output, moved to the CPU as the official code does."""
    seen, handles = [], []
    for layer in layers:
        handles.append(layer.register_forward_hook(lambda m, i, o: seen.append((o[0] if isinstance(o, tuple) else o).detach().cpu())))
    with torch.no_grad():
        model(window)
    for h in handles:
        h.remove()
    return [s.reshape(s.shape[-2:]) for s in seen]


def massive(window):
    """Massive layers: layer -> list of (position, dim, value)."""
    found = {}
    for i, h in enumerate(hidden_states(window)):
        a = h.abs()
        if a.max() > 100 and a.max() > 1000 * a.median():
            where = ((a > 100) & (a > 1000 * a.median())).nonzero()
            found[i] = [(p, d, h[p, d].item()) for p, d in where.tolist()]
    return found


def perplexity(data, edits):
    """edits: per window the list of (position, dim, value) written at the output of the first layer."""
    total = 0.0
    for window, edit in zip(data, edits):
        def write(m, i, o):
            h = o[0] if isinstance(o, tuple) else o
            for p, d, v in edit:
                h[..., p, d] = v
            return o
        handle = layers[first].register_forward_hook(write) if edit else None
        with torch.no_grad():
            logits = model(window).logits
        loss = torch.nn.functional.cross_entropy(logits[0, :-1], window[0, 1:])
        if handle:
            handle.remove()
        total += loss.item() * LENGTH
    return math.exp(total / (len(data) * LENGTH))


calibration = windows(sys.argv[4], max(CALIBRATION, MEANS))
evaluation = windows(sys.argv[2 + 1], WINDOWS)
first, dims = None, set()
for window in calibration[:CALIBRATION]:
    found = massive(window)
    if not found:
        continue
    low = min(found)
    for layer, entries in found.items():
        if first is not None or layer == low:
            dims |= {d for _, d, _ in entries}
    first = low if first is None else min(first, low)
sums = {}
for window in calibration[:MEANS]:
    found = massive(window)
    if found:
        low = min(found)
        for p, d, v in found[low]:
            if d in dims:
                sums.setdefault(low, {}).setdefault((p == 0, d), []).append(v)
positions = []
for window in evaluation:
    found = massive(window)
    positions.append(sorted({p for p, _, _ in found[min(found)]}) if found else [])
none = [[] for _ in evaluation]
print("original", perplexity(evaluation, none), flush=True)
print("set_to_zero", perplexity(evaluation, [[(p, d, 0.0) for p in ps for d in dims] for ps in positions]), flush=True)
for layer in sorted(sums):
    mean = {key: sum(v) / len(v) for key, v in sums[layer].items()}
    edits = [[(p, d, mean[p == 0, d]) for p in ps for d in dims if (p == 0, d) in mean] for ps in positions]
    print(f"set_to_mean_{layer}", perplexity(evaluation, edits), flush=True)
print(f"first layer {first}, dims {sorted(dims)}; {time.perf_counter() - began:.1f} s")
