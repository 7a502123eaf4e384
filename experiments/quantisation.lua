-- What do massive activations cost where a model runs in 8 bits?  Rounding weights and inputs of the linear maps to int8 with
-- one scale per tensor, as in Bondarenko et al. 2021 (arXiv 2109.12948) and SmoothQuant (Xiao et al. 2023, arXiv 2211.10438);
-- and once more with the massive tokens kept out, in full precision.
local massact = require "massact"
local options = require "massact.options"
local paper = require "massact.paper"
local quantisation = require "massact.quantisation"

local opt = massact.options(paper.options {
  bits = { "integer", default = 8, help = "of weights and activations, 2 to 16" },
  dynamic = { "boolean", default = false, help = "scales of activations: each sequence's own; else those of the calibration windows" },
}, "Perplexity with weights and activations in 8 bits, and with the massive tokens kept out.")
if opt.bits < 2 or opt.bits > 16 then options.usage_error("--bits must be between 2 and 16") end

local run = massact.run(opt)
local results = run:results(function(model)
  local levels, texts = quantisation.levels(opt.bits), {}
  local scales = quantisation.calibrate(model, run:calibration(), { label = "calibration", journal = run.journal })
  for i, text in ipairs(run:texts()) do
    texts[i] = run:timed(text.name, quantisation.evaluate, run, text, not opt.dynamic and scales or nil, levels)
  end
  return { texts = texts, scales = quantisation.by_layer(model, scales) }
end)

local shown = { full = "f32", weights = "W%d", activations = "A%d", activations_kept_out = "A%d, massive tokens kept out", both = "W%dA%d",
  both_kept_out = "W%dA%d, massive tokens kept out" }
local rows = {}
for _, text in ipairs(results.texts) do
  run:say("%s, %d windows of %d tokens, %s scales of activations:", text.name, text.windows, results.options.context_length,
    results.options.dynamic and "dynamic" or "static")
  for _, case in ipairs(quantisation.cases) do
    local name, value = shown[case.name]:gsub("%%d", results.options.bits), text.perplexity[case.name]
    rows[#rows + 1] = { text.name, case.name, results.options.bits, value, text.windows }
    run:say("  %-32s %s", name, paper.perplexity(value))
  end
end
run:csv("quantisation.csv", { "text", "case", "bits", "perplexity", "windows" }, rows)
run:draw("quantisation.png", quantisation.figure(results))
run:draw("quantisation_scales.png", quantisation.scales_figure(results))
run:finish()
