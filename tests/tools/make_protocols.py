"""Perplexities of the default model's text by the windows of llama.cpp and of lm-evaluation-harness, for tests/golden/protocols.json.

    python make_protocols.py FOLDER_OF_THE_MODEL TEXT [--lm-eval utils.py] [--gguf MODEL.gguf] > tests/golden/protocols.json

Losses come from transformers in f64 sums.  The windows of lm-eval come from the harness's own utils.py where one is given (the file
lm_eval/utils.py of the package lm_eval), else from the same rules written here; with --gguf, llama.cpp evaluates its chunks as well,
and a difference of more than 1e-3 ends the program.
"""
import argparse
import importlib.util
import json
import math
import re
import sys

import torch
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

LENGTHS = [32, 64, 256]


def losses(model, ids, targets):
    """-log p of the targets, which are what the last len(targets) of the ids predict."""
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0, -len(targets):].double()
    return -torch.log_softmax(logits, -1)[torch.arange(len(targets)), torch.tensor(targets)]


def llama_cpp_chunks(ids, bos, n_ctx):
    """tools/perplexity: tokens (with BOS in front) in chunks, the first of each overwritten; logits from n_ctx/2 on are scored."""
    tokens = ([bos] if bos is not None else []) + ids
    for i in range(len(tokens) // n_ctx):
        chunk = tokens[i * n_ctx:(i + 1) * n_ctx]
        yield ([bos] if bos is not None else chunk[:1]) + chunk[1:], n_ctx // 2


def rolling_windows(token_list, prefix_token, max_seq_len, context_len):
    first = min(max_seq_len, len(token_list))
    yield [prefix_token] + token_list[:first - 1], token_list[:first]
    predicted = first
    while predicted < len(token_list):
        n = min(len(token_list) - predicted, max_seq_len - context_len + 1)
        end = predicted + n
        yield token_list[end - max_seq_len - 1:end - 1], token_list[end - n:end]
        predicted = end


def load_harness(path):
    spec = importlib.util.spec_from_file_location("lm_eval_utils", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["lm_eval_utils"] = module
    spec.loader.exec_module(module)
    return module.get_rolling_token_windows


def check_with_llama_cpp(path, ids, bos, n_ctx, expected):
    import llama_cpp
    import numpy
    llama = llama_cpp.Llama(path, n_ctx=n_ctx, n_batch=n_ctx, logits_all=True, verbose=False)
    total, count = 0.0, 0
    for chunk, first in llama_cpp_chunks(ids, bos, n_ctx):
        llama.reset()
        llama.eval(chunk)
        logits = torch.from_numpy(numpy.array(llama.scores[:n_ctx])).double()
        log_p = torch.log_softmax(logits, -1)
        for t in range(first, n_ctx - 1):
            total, count = total - log_p[t, chunk[t + 1]].item(), count + 1
    got = math.exp(total / count)
    print(f"llama.cpp, {n_ctx}, BOS {bos}: {got}, transformers {expected}", file=sys.stderr)
    assert abs(got - expected) < 1e-3 * expected


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("text")
    parser.add_argument("--lm-eval")
    parser.add_argument("--gguf")
    args = parser.parse_args()
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32).eval()
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=args.model + "/tokenizer.json")
    text = open(args.text, encoding="utf-8", newline="").read()
    ids = tokenizer.encode(text, add_special_tokens=False)
    bos = model.config.bos_token_id
    windows = load_harness(args.lm_eval) if args.lm_eval else rolling_windows
    out = {"text": "experiments/default/text.txt", "n_tokens": len(ids), "llama.cpp": {}, "lm-eval": {}}
    for n_ctx in LENGTHS:
        by_bos = {}
        for name, front in (("bos", bos), ("no_bos", None)):
            parts = [losses(model, chunk[:-1], chunk[1:])[first:] for chunk, first in llama_cpp_chunks(ids, front, n_ctx)]
            scored = torch.cat(parts)
            by_bos[name] = {"perplexity": math.exp(scored.mean().item()), "n_scored": len(scored)}
            if args.gguf:
                check_with_llama_cpp(args.gguf, ids, front, n_ctx, by_bos[name]["perplexity"])
        out["llama.cpp"][n_ctx] = by_bos
    for length in LENGTHS:
        scored = torch.cat([losses(model, inputs, predicted) for inputs, predicted in windows(ids, bos, length, 1)])
        total, words, size = scored.sum().item(), len(re.split(r"\s+", text)), len(text.encode("utf-8"))
        out["lm-eval"][length] = {"perplexity": math.exp(total / len(scored)), "n_scored": len(scored), "n_words": words, "n_bytes": size,
                                  "word_perplexity": math.exp(total / words), "byte_perplexity": math.exp(total / size)}
    json.dump(out, sys.stdout, indent=1)
    print()


main()
