"""Makes tests/golden/tokenizer_components.json: for each component of tokenizer.json what Hugging Face's tokenizers gives.

    python make_tokenizers.py OUT [--texts N] [--seed S]

Each entry is a tokenizer.json without its model and the name of one of `models`; `cases` has texts with their ids, with and
without special tokens, and the texts of those.  More texts and other seeds make it a random test of any size.
"""
import argparse, base64, copy, json, random, unicodedata
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers, decoders

SAMPLE = ["the quick brown fox jumps over the lazy dog, and then the others: \"it's 2024!\"  we'll see\n\tthe end.",
          "Ünïcödé café naïve \u4e2d\u6587\u5b57\u7b26 \u0440\u0443\u0441\u0441\u043a\u0438\u0439 the text 12345 text-text text_text"] * 4
STRANGE = list("   \t\n\r\x0b\x0c\x00\x01\x1f\x7f\x85\xa0\u1680\u180e\u2003\u2028\u2029\u202f\u3000\u200b\u200d\ufeff\ufffd\u2581"
               "'s\u0301\u0308e\u0301\u0323\u212b\ufb01\ufb03\u00bd\u00b2\u2460\u0130\u0131\u00df\u017f\u212a\u01c5\u03a3\u1e9e"
               "\uac00\u1100\u1161\u11a8\u0915\u094d\u0937\u0e33\U0001f600\U0001f469\u200d\U0001f4bb\U0001f1e9\U0001f1ea\u2764\ufe0f"
               "\u4e2d\u3042\u30ab\u3099\u0627\u0644\ufdfa\u05d0\u05b0!\"#$%^`|~<>+=-_.,;:/\\()[]{}\u2014\u2026\u00ab\u20ac0129\u0664\u216b")
WORDS = ["the", " the", "text", "fox", " it's", "we'll", "WE'LL", "2024", "  ", "\n\n", "<s>", "[MASK]", "[mask]", " [MASK] ", "tok", "token",
         "token!", "x token y", "xtoken", "</s>", "<unk>", "caf\u00e9", "cafe\u0301", "\u2581the", "a-b", "a,b", "Hello World", "...", "<0x41>"]


def text(rng):
    def part():
        kind = rng.random()
        if kind < 0.35:
            return rng.choice(WORDS)
        if kind < 0.55:
            return rng.choice("abcdetxho ETX ")
        if kind < 0.9:
            return rng.choice(STRANGE)
        while True:
            c = chr(rng.choice([rng.randrange(0x250), rng.randrange(0x3000), rng.randrange(0x11000), rng.randrange(0x20000)]))
            # Of Unicode 3.2: newer characters are not the same to all libraries.
            if unicodedata.ucd_3_2_0.category(c) not in ("Cn", "Cs"):
                return c
    return "".join(part() for _ in range(rng.randrange(1, 14)))


def trained(model, trainer, pre):
    t = Tokenizer(model)
    t.pre_tokenizer = pre
    t.train_from_iterator(SAMPLE, trainer)
    return json.loads(t.to_str())["model"]


def make_models():
    bytes_ = ["<0x%02X>" % b for b in range(256)]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    quiet = {"show_progress": False}
    unigram = trained(models.Unigram(), trainers.UnigramTrainer(vocab_size=90, special_tokens=["<unk>"], unk_token="<unk>", **quiet),
                      pre_tokenizers.Metaspace())
    unigram["vocab"] = [[w, round(s, 4)] for w, s in unigram["vocab"]]
    fallback = dict(unigram, vocab=unigram["vocab"] + [[b, -12.0] for b in bytes_], byte_fallback=True)
    plain = trained(models.BPE(unk_token="<unk>"), trainers.BpeTrainer(vocab_size=110, special_tokens=["<unk>"], **quiet),
                    pre_tokenizers.Metaspace())
    return {
        "byte level": trained(models.BPE(), trainers.BpeTrainer(vocab_size=320, initial_alphabet=alphabet, **quiet),
                              pre_tokenizers.ByteLevel(add_prefix_space=False)),
        "fallback": trained(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True),
                            trainers.BpeTrainer(vocab_size=360, special_tokens=["<unk>"] + bytes_, **quiet), pre_tokenizers.Metaspace()),
        "plain": plain,
        "fused": dict(plain, fuse_unk=True),
        # Pieces without a known letter are one token each: shows where pieces end.
        "count": {"type": "BPE", "unk_token": "<unk>", "fuse_unk": True, "vocab": {"<unk>": 0, "e": 1, "t": 2, " ": 3, "te": 4, "et": 5},
                  "merges": [["t", "e"], ["e", "t"]]},
        "few bytes": {"type": "BPE", "unk_token": "<unk>", "byte_fallback": True,
                      "vocab": {"<unk>": 0, "e": 1, "<0xC3>": 2, "<0xA9>": 3, "<0x20>": 4, "<0xE4>": 5}, "merges": []},
        "unigram": unigram,
        "unigram fallback": fallback,
    }


def charsmap(rules):
    """A Precompiled charsmap of the rules: a double-array trie as darts-clone lays it out, then the replacements."""
    texts, root = b"", {}
    for source, target in rules.items():
        node = root
        for byte in source.encode():
            node = node.setdefault(byte, {})
        node[None] = len(texts)
        texts += target.encode() + b"\0"
    units, used = {}, {0}

    def place(node, at, label):
        offset = next(o for o in range(1, 1 << 20) if all(at ^ o ^ (c or 0) not in used for c in node))
        units[at] = offset << 10 | (None in node) << 8 | label
        used.update(at ^ offset ^ (c or 0) for c in node)
        for c, child in node.items():
            if c is None:
                units[at ^ offset] = 1 << 31 | child
            else:
                place(child, at ^ offset ^ c, c)
    place(root, 0, 0)
    n = (max(units) | 255) + 1
    trie = b"".join(units.get(i, 0).to_bytes(4, "little") for i in range(n))
    return base64.b64encode(len(trie).to_bytes(4, "little") + trie + texts).decode()


def components():
    split = lambda pattern, behavior, invert=False: {"type": "Split", "pattern": pattern, "behavior": behavior, "invert": invert}
    rx = lambda r: {"Regex": r}
    behaviors = ["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"]
    meta = lambda **k: dict({"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": True}, **k)
    byte_level = lambda **k: dict({"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}, **k)
    seq = lambda key, *items: {"type": "Sequence", key: list(items)}
    replace = lambda p, c: {"type": "Replace", "pattern": p, "content": c}
    spm = seq("decoders", replace({"String": "\u2581"}, " "), {"type": "ByteFallback"}, {"type": "Fuse"},
              {"type": "Strip", "content": " ", "start": 1, "stop": 0})
    added = lambda content, **k: dict({"content": content, "single_word": False, "lstrip": False, "rstrip": False,
                                       "normalized": False, "special": False}, **k)
    out = []
    add = lambda name, model, **k: out.append(dict({"name": name, "model": model, "normalizer": None, "pre_tokenizer": None,
                                                    "post_processor": None, "decoder": None, "added_tokens": []}, **copy.deepcopy(k)))
    for kind in ["NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "Nmt", "ByteLevel"]:
        add("normalizer " + kind, "fallback", normalizer={"type": kind}, decoder=spm)
    add("normalizer Prepend", "fallback", normalizer={"type": "Prepend", "prepend": "\u2581"}, decoder=spm)
    for i, (p, c) in enumerate([({"String": " "}, "\u2581"), (rx(" {2,}"), " "), (rx("\\s+"), ""), (rx("x*"), "-"), ({"String": "ab"}, "b")]):
        add("normalizer Replace %d" % i, "fallback", normalizer=replace(p, c), decoder=spm)
    rules = {"\ufb01": "fi", "\u2460": "1", "\xa0": " ", "\u3000": " ", "\t": " ", "\n": " ", "\u200b": "", "e": "E", "e\u0301": "\xe9",
             "\u0301": "'", "\u30ab\u3099": "\u30ac", "\u212b": "\xc5", "x\u0308": "X", "\u1100\u1161": "\uac00", "\x01": ""}
    add("normalizer Precompiled", "fallback", normalizer={"type": "Precompiled", "precompiled_charsmap": charsmap(rules)}, decoder=spm,
        extra=["x\u0308 e\u0301\u0323 \u30ab\u3099", "\ufb01\u2460\xa0a\u1100\u1161\u11a8\u1100", "e\u0308\u0301 e\u0301\u200b\u0301x"])
    for left in (True, False):
        for right in (True, False):
            add("normalizer Strip %s %s" % (left, right), "fallback", normalizer={"type": "Strip", "strip_left": left, "strip_right": right})
    add("normalizer Sequence", "fallback", normalizer=seq("normalizers", {"type": "NFKD"}, {"type": "StripAccents"}, {"type": "Lowercase"},
                                                          {"type": "Strip", "strip_left": True, "strip_right": True}), decoder=spm)
    for b in behaviors:
        for invert in (False, True):
            add("Split %s %s" % (b, invert), "count", pre_tokenizer=split(rx("[^\\S\\n]|[.,x]"), b, invert))
        add("Split String %s" % b, "count", pre_tokenizer=split({"String": "te"}, b))
        add("Split empty matches %s" % b, "count", pre_tokenizer=split(rx("x*"), b))
        add("Punctuation %s" % b, "count", pre_tokenizer={"type": "Punctuation", "behavior": b})
    regexes = ["\\w+", "\\W", "\\s", "\\S+", "\\d+", "\\D", "\\h+", "\\H", "\\p{Han}+", "\\p{^L}+", "\\P{L}", "[[:punct:]]", "[[:alpha:]]+", "[[:^space:]]",
               "[^(\\s|[.,!?\u2026\u3002])]+", "[\\p{L}&&[^\\p{Han}e]]+", "[^a-z&&[^0-9]]", "[a[bc]]|[^a[\\S]]", "\\bt", "\\B.", "^.", ".$", ".+", "(?m).+",
               "(?i)the|FOX", "(?i:'s|'t|'ll|k)", "t(?i)e|X", "(?-i:t)e", "e{2}|t{1,2}+", "t{2}?x", "(?:ab?){,2}x", "(t)(?<n>e)", "(?<=t)e", "(?<!t)e(?!x)",
               "(?>e+)x?", "a*+", "e+?", "\\x{4e2d}|\\x41|\\u0065|\\t|\\v|\\.", "[\\t-\\r\\-]+", "[-a]|[a-]", "\\p{Punct}+", "\\p{Alpha}",
               "\\R", "\\A.|.\\z", "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
               "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
               "'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+", "a{,2}b{1", "{|}", "(?#no)e"]
    for r in regexes:
        add("Regex " + r, "count", pre_tokenizer=split(rx(r), "Isolated"))
    for flag in (True, False):
        add("Digits %s" % flag, "count", pre_tokenizer={"type": "Digits", "individual_digits": flag})
    for kind in ("Whitespace", "WhitespaceSplit"):
        add(kind, "count", pre_tokenizer={"type": kind})
    add("CharDelimiterSplit", "count", pre_tokenizer={"type": "CharDelimiterSplit", "delimiter": "t"})
    for model in ("fallback", "plain", "unigram", "unigram fallback"):
        for scheme in ("always", "first", "never"):
            for cut in (True, False):
                add("Metaspace %s %s %s" % (model, scheme, cut), model, pre_tokenizer=meta(prepend_scheme=scheme, split=cut),
                    decoder=meta(prepend_scheme=scheme, split=cut), added_tokens=[added("<s>", special=True)])
    add("Metaspace old", "plain", pre_tokenizer={"type": "Metaspace", "replacement": "\u2581", "add_prefix_space": True},
        decoder={"type": "Metaspace", "replacement": "\u2581", "add_prefix_space": True})
    add("Metaspace first, stripped", "unigram", normalizer={"type": "Strip", "strip_left": True, "strip_right": True},
        pre_tokenizer=meta(prepend_scheme="first"), decoder=meta())
    add("Metaspace first, cut", "unigram", pre_tokenizer=seq("pretokenizers", {"type": "WhitespaceSplit"}, meta(prepend_scheme="first")))
    for model in ("byte level",):
        for space in (True, False):
            for regex in (True, False):
                add("ByteLevel %s %s" % (space, regex), model, pre_tokenizer=byte_level(add_prefix_space=space, use_regex=regex),
                    decoder=byte_level(), post_processor=byte_level())
    add("ByteLevel behind Digits", "byte level", pre_tokenizer=seq("pretokenizers", {"type": "Digits", "individual_digits": True}, byte_level(add_prefix_space=True)), decoder=byte_level())
    add("ByteLevel before Split", "byte level", pre_tokenizer=seq("pretokenizers", byte_level(), split({"String": "e"}, "Isolated")), decoder=byte_level())
    add("ByteLevel, ignored merges", "byte level", pre_tokenizer=byte_level(use_regex=False), decoder=byte_level(), ignore_merges=True,
        added_tokens=[added("the the", single_word=True)])
    for model in ("plain", "fused", "few bytes", "fallback", "unigram", "unigram fallback"):
        add("no pre_tokenizer " + model, model)
    for i, d in enumerate([{"type": "ByteLevel"}, {"type": "ByteFallback"}, {"type": "Fuse"}, spm, {"type": "Strip", "content": "e", "start": 1, "stop": 0},
                           replace({"String": "e"}, "EE"), replace(rx("[et]+"), ""), meta(prepend_scheme="never"), seq("decoders"),
                           seq("decoders", meta(), {"type": "Fuse"}, replace({"String": "  "}, " "))]):
        if d["type"] == "ByteLevel":
            d = byte_level()
        add("decoder %d %s" % (i, d["type"]), "fallback", decoder=d)
    tokens = [added("<s>", special=True), added("</s>", special=True), added("[MASK]", lstrip=True, special=True), added("token", single_word=True),
              added("tok", rstrip=True), added(" ", rstrip=True), added("  ", lstrip=True), added("caf\u00e9", normalized=True), added("[mask]", normalized=True, lstrip=True, rstrip=True)]
    for i, t in enumerate(tokens):
        add("added %d" % i, "fallback", added_tokens=[t], decoder=spm)
    add("added all", "fallback", added_tokens=tokens, normalizer={"type": "NFC"}, decoder=spm)
    add("added all, Prepend", "fallback", added_tokens=tokens, normalizer=seq("normalizers", {"type": "Prepend", "prepend": "\u2581"}, replace({"String": " "}, "\u2581")), decoder=spm)
    add("added, lower case", "byte level", added_tokens=[added("Hello World", normalized=True), added("[MASK]", normalized=True, special=True, single_word=True)],
        normalizer={"type": "Lowercase"}, pre_tokenizer=byte_level(), decoder=byte_level())
    special = lambda i: {"SpecialToken": {"id": i, "type_id": 0}}
    text_ = {"Sequence": {"id": "A", "type_id": 0}}
    template = lambda single, specials: {"type": "TemplateProcessing", "single": single, "pair": [text_, {"Sequence": {"id": "B", "type_id": 1}}],
                                         "special_tokens": {k: {"id": k, "ids": v, "tokens": ["<unk>"] * len(v)} for k, v in specials.items()}}
    add("TemplateProcessing", "fallback", post_processor=template([special("<s>"), special("x"), text_, special("</s>")], {"<s>": [0], "</s>": [5], "x": [7, 8]}))
    add("TemplateProcessing behind ByteLevel", "fallback", post_processor=seq("processors", byte_level(), template([special("<s>"), text_], {"<s>": [3]})))
    add("RobertaProcessing", "fallback", post_processor={"type": "RobertaProcessing", "sep": ["a", 4], "cls": ["b", 6], "trim_offsets": True, "add_prefix_space": False})
    add("BertProcessing", "fallback", post_processor={"type": "BertProcessing", "sep": ["a", 4], "cls": ["b", 6]})
    return out


def whole(entry, all_models):
    """The tokenizer.json of an entry; ids of its added tokens follow the model's."""
    model = dict(all_models[entry["model"]])
    if entry.get("ignore_merges"):
        model["ignore_merges"] = True
    n = len(model["vocab"])
    known = model["vocab"] if isinstance(model["vocab"], dict) else {w: i for i, (w, _) in enumerate(model["vocab"])}
    for a in entry["added_tokens"]:
        if a["content"] in known:
            a["id"] = known[a["content"]]
        else:
            a["id"], n = n, n + 1
    keys = ("added_tokens", "normalizer", "pre_tokenizer", "post_processor", "decoder")
    return dict({"version": "1.0", "truncation": None, "padding": None, "model": model}, **{k: entry[k] for k in keys})


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("out")
    parser.add_argument("--texts", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    all_models, entries = make_models(), components()
    for entry in entries:
        tokenizer = Tokenizer.from_str(json.dumps(whole(entry, all_models)))
        entry["cases"] = []
        for t in entry.pop("extra", []) + [text(rng) for _ in range(options.texts)]:
            ids, special = tokenizer.encode(t, add_special_tokens=False).ids, tokenizer.encode(t).ids
            line = lambda values: " ".join(map(str, values))
            case = {"text": t, "ids": line(ids)}
            if special != ids:
                case["ids_special"] = line(special)
            # Without a decoder tokens are joined by blanks: one entry shows it.
            if entry["decoder"] or entry["name"] == "no pre_tokenizer fallback":
                case["decoded"] = tokenizer.decode(ids, skip_special_tokens=False)
                skipped = tokenizer.decode(special, skip_special_tokens=True)
                if skipped != case["decoded"]:
                    case["decoded_skip"] = skipped
            entry["cases"].append(case)
        for key in [k for k in entry if not entry[k]]:
            del entry[key]
    with open(options.out, "w") as f:
        json.dump({"models": all_models, "components": entries}, f, separators=(",", ":"), ensure_ascii=False)
        f.write("\n")


if __name__ == "__main__":
    main()
