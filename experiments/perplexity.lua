-- The perplexity of texts by three protocols, whose numbers do not compare: the paper's windows (Owen et al. 2025), llama.cpp's
-- chunks, and the rolling windows of lm-evaluation-harness; as the model is, and with its massive activations at position 0 set to zero.
local massact = require "massact"
local paper = require "massact.paper"
local perplexity = require "massact.perplexity"

local opt = massact.options(paper.options {
  protocols = { "texts", default = { "paper", "llama.cpp", "lm-eval" }, help = "which: paper, llama.cpp, lm-eval" },
}, "Perplexity by the protocols of the paper, llama.cpp and lm-eval, with and without the massive activations.")
local run = massact.run(opt)

local results = run:results(function(model)
  local found = massact.detect(model, run:calibration(), { label = "detection" })
  local out = { first_layer = found.first_layer, dims = found.dims, texts = {} }
  local bos -- nil: what each protocol does
  if opt.given.add_bos_token ~= nil then bos = opt.add_bos_token end
  for i, text in ipairs(run:texts()) do
    local by_protocol = {}
    local function measure(key)
      for _, name in ipairs(opt.protocols) do
        by_protocol[name] = by_protocol[name] or {}
        by_protocol[name][key] = perplexity.of_text(model, text.text, { protocol = name, context_length = opt.context_length,
          bos = bos, windows = text.limit, label = ("%s, %s"):format(text.name, name) })
      end
    end
    measure "original"
    if found.first_layer then
      local point = model:point(("layers.%d.out"):format(found.first_layer))
      local patch <close> = point:patch { positions = { 0 }, dims = found.dims, to = 0 }
      measure "set_to_zero"
    end
    out.texts[i] = { name = text.name, by_protocol = by_protocol }
  end
  return out
end)

local rows = {}
for _, text in ipairs(results.texts) do
  run:say("%s:", text.name)
  for _, name in ipairs(opt.protocols) do
    local seen = text.by_protocol[name]
    for _, key in ipairs { "original", "set_to_zero" } do
      local r = seen[key]
      if r then
        rows[#rows + 1] = { text.name, name, key, r.perplexity, r.word_perplexity, r.byte_perplexity, r.n_scored, r.n_windows, r.context_length, r.bos }
        run:say("  %-10s %-12s perplexity %.5g over %d tokens in %d windows of %d, %s", name, key, r.perplexity, r.n_scored, r.n_windows,
          r.context_length, r.bos and "BOS first" or "no BOS")
      end
    end
  end
end
run:csv("perplexity.csv", { "text", "protocol", "intervention", "perplexity", "word_perplexity", "byte_perplexity", "predictions",
  "windows", "context_length", "bos" }, rows)
run:finish()
