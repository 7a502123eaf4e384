"""Reads the GGUF files that massact writes with transformers and with llama.cpp, and compares logits with the golden ones.

    python check_gguf.py BUILD/massact GOLDEN [GOLDEN ...]     GOLDEN: a folder of golden models

needs numpy and safetensors, and torch with transformers and gguf, or llama-cpp-python; a reader that is not there is
skipped.  The exit status is 1 when a reader disagrees that should not: see KNOWN."""
import os
import subprocess
import sys
import tempfile

try:
    import numpy as np
    from safetensors.numpy import load_file
except ImportError as missing:
    sys.exit(print(f"skipped: everything ({missing})"))

# Where a reader computes something else, and why: (reader, golden folder) -> reason.
KNOWN = {
    ("llama.cpp", "mistral-v0.1"): "has no sliding window for this architecture",
    ("llama.cpp", "gemma-2"): "scales queries by the head's width",
    ("llama.cpp", "gemma-3"): "scales queries by the head's width",
    ("llama.cpp", "gemma-3-linear"): "scales queries by the head's width",
    ("transformers", "mistral-v0.1"): "reads no sliding window",
    ("transformers", "falcon-11b"): "leaves queries, keys and values in the order of the file",
    ("transformers", "falcon-40b"): "leaves queries, keys and values in the order of the file",
}


def of_transformers(path, ids, original):
    """The tensors are the file's; the config is the original's, as what transformers reads of the metadata is not all."""
    import torch
    import transformers
    transformers.logging.set_verbosity_error()
    folder, name = os.path.split(path)
    config = transformers.AutoConfig.from_pretrained(original)
    if config.model_type == "mistral":
        config = None  # in a GGUF file it is a Llama
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32, attn_implementation="eager",
                                                              config=config)
    with torch.no_grad():
        return model.eval()(torch.tensor([ids])).logits[0].numpy()


def of_llama_cpp(path, ids, _):
    import llama_cpp
    model = llama_cpp.Llama(path, n_ctx=64, n_batch=64, n_ubatch=64, n_threads=2, logits_all=True, verbose=False,
                            type_k=0, type_v=0, flash_attn=False)
    model.eval(list(ids))
    return np.array(model.scores[:len(ids)], dtype=np.float32)


def agreement(read, reader, folder, path, ids, expected):
    """What to print, and whether it is as it should be."""
    try:
        logits = read(path, ids, folder)
    except ImportError as missing:
        return f"skipped ({missing})", True
    except Exception as problem:
        return f"cannot read: {str(problem).splitlines()[0][:90]}", reader != "llama.cpp"
    error = float(np.abs(logits - expected).max() / np.abs(expected).max())
    # llama.cpp computes every GELU as its tanh approximation, from a table in f16.
    if error <= (2e-3 if reader == "llama.cpp" else 1e-4):
        return f"agrees, {error:.1e}", True
    reason = KNOWN.get((reader, os.path.basename(folder)))
    return f"differs, {error:.1e}" + (f": {reason}" if reason else ""), reason is not None


def main(massact, roots):
    is_fine = True
    with tempfile.TemporaryDirectory() as work:
        for root in roots:
            for name in sorted(os.listdir(root)):
                folder = os.path.join(root, name)
                if not os.path.exists(f"{folder}/expected.safetensors"):
                    continue
                path = os.path.join(work, name + ".gguf")
                made = subprocess.run([massact, "convert", folder, path, "--dtype", "f32"], capture_output=True, text=True)
                if made.returncode != 0:
                    print(f"{name:16} {made.stderr.strip().splitlines()[-1]}", flush=True)
                    is_fine = is_fine and ("has no GGUF form" in made.stderr or "which llama.cpp cannot" in made.stderr)
                    continue
                golden = load_file(f"{folder}/expected.safetensors")
                for which in ("short", "long"):
                    if f"{which}.logits" not in golden:
                        continue
                    ids, expected = golden[f"{which}.input_ids"].tolist(), golden[f"{which}.logits"]
                    for reader, read in (("transformers", of_transformers), ("llama.cpp", of_llama_cpp)):
                        text, fine = agreement(read, reader, folder, path, ids, expected)
                        is_fine = is_fine and fine
                        print(f"{name:16} {which:5} {reader:12} {text}{'' if fine else '   <--'}", flush=True)
    return 0 if is_fine else 1


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1], sys.argv[2:]))
