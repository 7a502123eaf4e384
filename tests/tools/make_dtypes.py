"""Makes tests/golden/dtypes/NAME.safetensors: what transformers gives for a tiny golden model in 16 bits.

    python make_dtypes.py tests/golden/models tests/golden/dtypes bf16,f16 gpt2 llama-3 gemma-3
    python make_dtypes.py MODELS tests/golden/dtypes bf16 gemma-2 mixtral mpt olmo-2 opt-350m pythia
                                                            needs torch, transformers and safetensors

MODELS has folders like those of tests/golden/models.  With eager attention on the CPU, for each DTYPE, in that dtype:
    input_ids    [T] i64       the first 24 of the model's `long` sequence
    positions    [P] i64       some of them
    DTYPE.hidden [L+1, T, D]   what enters layer 0, then each layer's output
    DTYPE.logits [P, V]        at `positions`
    DTYPE.probs  [L, H, P, T]  attention probabilities of the queries there
    DTYPE.loss   [1] f32       mean over the sequence
"""
import json
import pathlib
import shutil
import sys
import tempfile
import torch
import transformers
from safetensors.torch import load_file, save_file

POSITIONS = [0, 1, 7, 15, 20, 23]
TORCH = {"bf16": torch.bfloat16, "f16": torch.float16}
torch.set_num_threads(1)


def load(folder, dtype):
    with tempfile.TemporaryDirectory() as copy:
        for file in folder.iterdir():
            shutil.copy(file, copy)
        shutil.copy(folder / "config.v5.json", pathlib.Path(copy) / "config.json")
        config = json.loads((folder / "config.v5.json").read_text())
        options = {"experts_implementation": "eager"} if "num_local_experts" in config else {}
        model = transformers.AutoModelForCausalLM.from_pretrained(copy, dtype=dtype, attn_implementation="eager", **options)
    return model.eval()


def layers_of(model):
    return next(m for m in model.modules() if isinstance(m, torch.nn.ModuleList))


models, folder, dtypes = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3].split(",")
for name in sys.argv[4:]:
    ids = load_file(models / name / "expected.safetensors")["long.input_ids"][:24].clone()
    out = {"input_ids": ids, "positions": torch.tensor(POSITIONS)}
    for dtype in dtypes:
        model, hidden = load(models / name, TORCH[dtype]), []
        layers_of(model)[0].register_forward_pre_hook(
            lambda _, args, kwargs: hidden.append(args[0] if args else kwargs["hidden_states"]), with_kwargs=True)
        for layer in layers_of(model):
            layer.register_forward_hook(lambda _, args, y: hidden.append(y[0] if isinstance(y, tuple) else y))
        with torch.no_grad():
            y = model(ids[None], labels=ids[None], output_attentions=True)
        out[f"{dtype}.hidden"] = torch.stack([h.reshape(h.shape[-2:]) for h in hidden])
        out[f"{dtype}.logits"] = y.logits[0, POSITIONS]
        out[f"{dtype}.probs"] = torch.stack([p[0][:, POSITIONS] for p in y.attentions])
        out[f"{dtype}.loss"] = y.loss.reshape(1).float()
        for key in ("hidden", "logits", "probs"):
            assert out[f"{dtype}.{key}"].dtype == TORCH[dtype], key
    save_file({key: t.contiguous() for key, t in out.items()}, folder / f"{name}.safetensors")
