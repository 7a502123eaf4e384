"""Makes tests/golden/tokenizer_training.json: what Hugging Face's BpeTrainer makes of small texts.

    python make_tokenizer_training.py OUT

Each case has its text (or the name of one under experiments/default), the trainer's options, the merges, and the ids of `sample`.
"""
import json, os, random, sys
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

HOME = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
          r"\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
SAMPLE = "The king's daughter said: “It'S 12345!”\r\n\r\n   Zwölf 中文字符 \U0001f600 aaaaaaa\tabcabc </s>"


def letters(seed, alphabet, n):
    rng = random.Random(seed)
    return "".join(rng.choice(alphabet) for _ in range(n))


def case(text, vocab_size, min_frequency=2, special=("<s>", "</s>"), pattern="gpt2", file=None):
    tokenizer = Tokenizer(models.BPE())
    if pattern == "gpt2":
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    else:
        regex = {"llama3": LLAMA3, "qwen2": QWEN2}.get(pattern, pattern)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
            pre_tokenizers.Split(Regex(regex), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, min_frequency=min_frequency, special_tokens=list(special), show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator([text], trainer)
    merges = [m if isinstance(m, str) else " ".join(m) for m in json.loads(tokenizer.to_str())["model"]["merges"]]
    return {"file": file, "text": None if file else text, "vocab_size": vocab_size, "min_frequency": min_frequency, "special": list(special),
            "pattern": pattern, "merges": merges, "ids": tokenizer.encode(SAMPLE).ids, "size": tokenizer.get_vocab_size()}


def main():
    tales = open(os.path.join(HOME, "experiments/default/text.txt"), encoding="utf8", newline="").read()
    cases = [case(tales, 900, pattern=p, file="text.txt") for p in ("gpt2", "llama3", "qwen2", r"\s?\S+")]
    cases.append(case(SAMPLE * 3, 400, min_frequency=1))
    cases.append(case("x" * 100 + " " + "xy" * 40 + "\n\n\n" + "é" * 9, 290, min_frequency=0, special=()))
    # Few letters in long words: overlapping pairs, and tokens that two pairs make.
    for seed in range(12):
        cases.append(case(letters(seed, ["a", "b", "c ", "ab"][: 2 + seed % 3], 60 + 60 * seed), 340, min_frequency=seed % 4, special=("<s>",)))
    with open(sys.argv[1], "w") as out:
        json.dump({"sample": SAMPLE, "cases": cases}, out, ensure_ascii=True, indent=None, separators=(",", ":"))
        out.write("\n")


main()
