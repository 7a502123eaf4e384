-- Trains a byte-level BPE tokenizer (Sennrich et al. 2016, GPT-2's bytes) on texts and writes it as Hugging Face has them.
local massact = require "massact"

local opt = massact.options({
  data = { "texts", default = { massact.home .. "/experiments/default/calibration.txt" }, help = "texts: .txt, .jsonl, also .gz, .zst" },
  vocab_size = { "integer", default = 8192, help = "tokens in all: special ones, 256 bytes, merged ones" },
  special = { "texts", default = { "<s>", "</s>" }, help = "special tokens, ids from 0 on; the first is BOS, the second EOS" },
  min_frequency = { "integer", default = 2, help = "pairs that occur less often are not merged" },
  pattern = { "string", default = "gpt2", help = "how text is cut into words: gpt2, llama3, qwen2 or a regular expression" },
  field = { "string", default = "text", help = "what holds the text in a line of a .jsonl file" },
  data_dir = { "folder", help = "where the paper's names (wikitext ...) are looked for" },
  out = { "folder", default = "./tokenizer", help = "where tokenizer.json and tokenizer_config.json go" },
}, "Train a byte-level BPE tokenizer on texts.")

local begun = massact.system.clock()
local tokenizer, trained = massact.tokenizer.train(opt.data, { vocab_size = opt.vocab_size, special = opt.special, field = opt.field,
  min_frequency = opt.min_frequency, pattern = opt.pattern, data_dir = opt.data_dir, out = opt.out })
print(("%s: %d tokens, %d merges, in %.1f s"):format(opt.out, tokenizer:size(), #trained.merges, massact.system.clock() - begun))
if tokenizer:size() < opt.vocab_size then
  print(("fewer than the %d asked for: no other pair occurs %d times"):format(opt.vocab_size, opt.min_frequency))
end
local last = {}
for i = math.max(1, #trained.tokens - 7), #trained.tokens do last[#last + 1] = ("%q"):format(tokenizer:decode { i - 1 }) end
print("the last ones: " .. table.concat(last, " "))
