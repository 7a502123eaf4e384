-- On which tokens, in which dims, how large?  Owen et al. 2025 (arXiv 2503.22329), section 3: tokens_analysis, which applies
-- the criterion to each calibration window.
local massact = require "massact"
local keyed = require "massact.keyed"
local paper = require "massact.paper"
local tokens_analysis = require "massact.tokens_analysis"

local opt = massact.options(paper.options {
  calibration_windows = { "integer", default = 50, help = "windows to look at; 0: all" },
}, "Layers, tokens, dims and magnitudes of massive activations, window by window.")

local run = massact.run(opt)
local results = run:results(function()
  local windows = run:calibration()
  local found, sequences = run:timed("tokens_analysis", tokens_analysis.find, run, windows)
  tokens_analysis.write(run, found, sequences, windows)
  return tokens_analysis.results(run, found, sequences)
end)

tokens_analysis.report(run, results)
local rows = {}
for _, position in ipairs(keyed.keys(results.magnitude_at_final_first_layer)) do
  for _, dim in ipairs(keyed.keys(results.magnitude_at_final_first_layer[position])) do
    local m = results.magnitude_at_final_first_layer[position][dim]
    rows[#rows + 1] = { position, dim, m.avg, m.std, m.n, table.concat(results.tokens[position] or {}, " ") }
    run:say("  position %s, dim %s: %.1f +- %.1f in %d windows, tokens %s", position, dim, m.avg, m.std, m.n,
      paper.quoted(results.tokens[position] or {}))
  end
end
run:csv("tokens.csv", { "position", "dim", "mean_magnitude", "std", "windows", "tokens" }, rows)
run:draw("magnitude_by_layer.png",
  tokens_analysis.figure(results.model, results.magnitude_by_layer.max, results.magnitude_by_layer.median))
run:finish()
