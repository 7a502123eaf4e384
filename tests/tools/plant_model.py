"""Makes experiments/default: a small byte-level llama in which a massive activation is planted and matters.

While the model trains, 900 is added to dim 9 of the BOS token's hidden state after layer 1 and taken away after
layer 3, so that the layers in between learn to use the norm-flattened BOS as an attention sink.  Afterwards two
reserved MLP neurons are set so that the weights do the same by themselves: the hidden state of BOS at position 0
does not depend on the text, so their sizes follow from one forward pass.

    python plant_model.py TEXT OUT_FOLDER MINUTES

Needs torch and safetensors; massact itself never runs this.
"""
import json, math, os, sys, time
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

D, H, HD, FF, V, L, T = 64, 4, 16, 160, 320, 4, 256
EPS, THETA = 1e-5, 10000.0
MASSIVE, MARK = 9, 10          # the dim with the massive activation; the dim that marks BOS
BORN, GONE, SIZE = 1, 3, 900.0  # layers at whose output it appears and disappears
RUINED = 3.0                   # loss that training asks for when the activation is zeroed: it shall matter
NEURON = 0                     # reserved in the MLPs of those two layers
torch.manual_seed(0)
torch.set_num_threads(1)


def rope(x):
    inv = THETA ** (-torch.arange(0, HD, 2).float() / HD)
    a = torch.arange(x.shape[2]).float()[:, None] * inv
    a = torch.cat([a, a], -1)
    r = torch.cat([-x[..., HD // 2:], x[..., :HD // 2]], -1)
    return x * a.cos() + r * a.sin()


def norm(x, w):
    return w * x * torch.rsqrt((x * x).mean(-1, keepdim=True) + EPS)


def init():
    p = {"model.embed_tokens.weight": torch.randn(V, D) * 0.3, "model.norm.weight": torch.ones(D),
         "lm_head.weight": torch.randn(V, D) * 0.05}
    for i in range(L):
        n = f"model.layers.{i}."
        p[n + "input_layernorm.weight"] = torch.ones(D)
        p[n + "post_attention_layernorm.weight"] = torch.ones(D)
        for k in "qkvo":
            p[n + f"self_attn.{k}_proj.weight"] = torch.randn(D, D) * (0.1 if k != "o" else 0.04)
        p[n + "mlp.gate_proj.weight"] = torch.randn(FF, D) * 0.1
        p[n + "mlp.up_proj.weight"] = torch.randn(FF, D) * 0.1
        p[n + "mlp.down_proj.weight"] = torch.randn(D, FF) * 0.04
    p["model.embed_tokens.weight"][1] = torch.randn(D)
    return p


def keep_reserved(p):
    """Nobody but the plant writes to the two dims, and the reserved neurons stay silent."""
    with torch.no_grad():
        e = p["model.embed_tokens.weight"]
        e[:, MASSIVE] = 0
        e[:, MARK] = 0
        e[1, MARK] = 8
        for i in range(L):
            n = f"model.layers.{i}."
            for w in ("self_attn.o_proj.weight", "mlp.down_proj.weight"):
                p[n + w][[MASSIVE, MARK]] = 0
            for w in ("input_layernorm.weight", "post_attention_layernorm.weight"):
                p[n + w][[MASSIVE, MARK]] = 1
            p[n + "mlp.gate_proj.weight"][NEURON] = 0
            p[n + "mlp.up_proj.weight"][NEURON] = 0
            p[n + "mlp.down_proj.weight"][:, NEURON] = 0
        p["lm_head.weight"][:, [MASSIVE, MARK]] = 0


def forward(p, ids, planted, edit=None, trace=None):
    x = p["model.embed_tokens.weight"][ids]
    B, t, _ = x.shape
    for i in range(L):
        n = f"model.layers.{i}."
        h = norm(x, p[n + "input_layernorm.weight"])
        q, k, v = (F.linear(h, p[n + f"self_attn.{c}_proj.weight"]).view(B, t, H, HD).transpose(1, 2) for c in "qkv")
        z = F.scaled_dot_product_attention(rope(q), rope(k), v, is_causal=True).transpose(1, 2).reshape(B, t, D)
        x = x + F.linear(z, p[n + "self_attn.o_proj.weight"])
        h = norm(x, p[n + "post_attention_layernorm.weight"])
        if trace is not None:
            trace.append(h[0, 0].detach().clone())
        x = x + F.linear(F.silu(F.linear(h, p[n + "mlp.gate_proj.weight"])) * F.linear(h, p[n + "mlp.up_proj.weight"]),
                         p[n + "mlp.down_proj.weight"])
        if planted and i in (BORN, GONE):
            x = x + torch.zeros_like(x).index_put_((torch.arange(B), torch.zeros(B, dtype=torch.long), torch.full((B,), MASSIVE)),
                                                   torch.full((B,), SIZE if i == BORN else -SIZE))
        if edit is not None and i == BORN:
            x = x.clone()
            x[:, 0, MASSIVE] = edit
    return F.linear(norm(x, p["model.norm.weight"]), p["lm_head.weight"])


def windows(data, n, start):
    rows = [torch.cat([torch.tensor([1]), data[start + i * (T - 1):start + (i + 1) * (T - 1)]]) for i in range(n)]
    return torch.stack(rows)


def loss_of(p, w, planted, edit=None):
    with torch.no_grad():
        return F.cross_entropy(forward(p, w, planted, edit)[:, :-1].flatten(0, 1), w[:, 1:].flatten()).item()


def main():
    text, out, minutes = sys.argv[1], sys.argv[2], float(sys.argv[3])
    raw = open(text, "rb").read()
    data = torch.tensor(list(raw)) + 3
    held_out = len(data) - 40 * (T - 1)
    p = init()
    keep_reserved(p)
    for v in p.values():
        v.requires_grad_(True)
    opt = torch.optim.AdamW(p.values(), lr=3e-3, betas=(0.9, 0.95), weight_decay=0.05)
    end, began, step = time.time() + 60 * minutes, time.time(), 0
    while time.time() < end:
        done = (time.time() - began) / (60 * minutes)
        for g in opt.param_groups:
            g["lr"] = 3e-3 * min(1, (step + 1) / 100) * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * done)))
        at = torch.randint(0, held_out - T, (16,))
        w = torch.stack([torch.cat([torch.tensor([1]), data[a:a + T - 1]]) for a in at.tolist()])
        loss = F.cross_entropy(forward(p, w, True)[:, :-1].flatten(0, 1), w[:, 1:].flatten())
        without = F.cross_entropy(forward(p, w[:6], True, 0.0)[:, :-1].flatten(0, 1), w[:6, 1:].flatten())
        opt.zero_grad()
        (loss + F.relu(RUINED - without)).backward()
        torch.nn.utils.clip_grad_norm_(p.values(), 1.0)
        opt.step()
        keep_reserved(p)
        step += 1
        if step % 200 == 0:
            w = windows(data, 8, held_out)
            print(step, loss.item(), loss_of(p, w, True), loss_of(p, w, True, 0.0), flush=True)
    for v in p.values():
        v.requires_grad_(False)
    # The two neurons: gate and up read the dim, down writes what training added by hand.
    trace = []
    forward(p, windows(data, 1, 0), True, trace=trace)
    for layer, reads, writes in ((BORN, MARK, SIZE), (GONE, MASSIVE, -SIZE)):
        n, h = f"model.layers.{layer}.", trace[layer][reads]
        p[n + "mlp.gate_proj.weight"][NEURON, reads] = 1.0
        p[n + "mlp.up_proj.weight"][NEURON, reads] = 1.0
        p[n + "mlp.down_proj.weight"][MASSIVE, NEURON] = writes / (F.silu(h) * h)
    w = windows(data, 20, held_out)
    print("planted by hand", loss_of(p, w, True), "by weights", loss_of(p, w, False), "zeroed", loss_of(p, w, False, 0.0))
    os.makedirs(out, exist_ok=True)
    save_file({k: v.contiguous() for k, v in p.items()}, os.path.join(out, "model.safetensors"), metadata={"format": "pt"})
    json.dump({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": D, "num_hidden_layers": L,
               "num_attention_heads": H, "num_key_value_heads": H, "head_dim": HD, "intermediate_size": FF, "vocab_size": V,
               "max_position_embeddings": T, "hidden_act": "silu", "rms_norm_eps": EPS, "rope_theta": THETA,
               "tie_word_embeddings": False, "torch_dtype": "float32", "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0},
              open(os.path.join(out, "config.json"), "w"), indent=1)
    vocab = {"<pad>": 0, "<s>": 1, "</s>": 2}
    vocab.update({f"<0x{b:02X}>": b + 3 for b in range(256)})
    added = [{"id": i, "content": c, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
             for c, i in (("<pad>", 0), ("<s>", 1), ("</s>", 2))]
    json.dump({"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
               "pre_tokenizer": None, "post_processor": None,
               "decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]},
               "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                         "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": True, "ignore_merges": False,
                         "vocab": vocab, "merges": []}}, open(os.path.join(out, "tokenizer.json"), "w"), indent=1)
    json.dump({"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}, open(os.path.join(out, "tokenizer_config.json"), "w"), indent=1)


main()
