"""Hugging Face's BpeTrainer on what train_tokenizer.lua left: python tests/bench/train_tokenizer.py FOLDER VOCAB_SIZE"""
import json, os, resource, sys, time
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

folder, vocab_size = sys.argv[1], int(sys.argv[2])
path = os.path.join(folder, "text.txt")
ours = json.load(open(os.path.join(folder, "tokenizer.json")))


def trained(train):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, min_frequency=2, special_tokens=["<s>", "</s>"], show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    begun = time.perf_counter()
    train(tokenizer, trainer)
    seconds = time.perf_counter() - begun
    merges = [m if isinstance(m, str) else " ".join(m) for m in json.loads(tokenizer.to_str())["model"]["merges"]]
    same = len(set(merges) & set(ours["model"]["merges"]))
    print(f"tokenizers: {seconds:.2f} s, {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3:.0f} MB at the peak; "
          f"{same} of {len(merges)} merges are massact's, {'in the same order' if merges == ours['model']['merges'] else 'in another order'}")


print("the file, which it reads by lines:")
trained(lambda tokenizer, trainer: tokenizer.train([path], trainer))
print("the whole text as one document:")
text = open(path, encoding="utf8", newline="").read()
trained(lambda tokenizer, trainer: tokenizer.train_from_iterator([text], trainer))
