-- Encodes texts into a token file, which massact.loader maps for training (the format is in core/text/token_file.h).
local massact = require "massact"

local opt = massact.options({
  tokenizer = { "model", default = massact.home .. "/experiments/default/model", help = "folder, tokenizer.json or .gguf file" },
  data = { "texts", default = { massact.home .. "/experiments/default/calibration.txt" }, help = "texts: .txt (one document), .jsonl (a document a line), also .gz, .zst" },
  add_bos_token = { "boolean", default = true, help = "BOS before every document" },
  add_eos_token = { "boolean", default = false, help = "EOS behind every document" },
  field = { "string", default = "text", help = "what holds the text in a line of a .jsonl file" },
  data_dir = { "folder", help = "where the paper's names (wikitext ...) are looked for" },
  out = { "string", default = "./tokens.bin", help = "the token file" },
}, "Encode texts into a token file for training.")

local begun = massact.system.clock()
local info = massact.tokens.write(opt.out, massact.tokenizer.load(opt.tokenizer), opt.data,
  { bos = opt.add_bos_token, eos = opt.add_eos_token, field = opt.field, data_dir = opt.data_dir })
print(("%s: %d tokens of %d documents, ids of %d bytes below %d, in %.1f s"):format(opt.out, info.n_tokens, info.n_documents, info.id_bytes,
  info.vocab_size, massact.system.clock() - begun))
