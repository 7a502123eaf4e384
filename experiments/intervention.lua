-- Do massive activations matter?  Owen et al. 2025 (arXiv 2503.22329), section 4: at the output of the first massive
-- layer, set them to zero or to their mean, and see what happens to the perplexity.
local massact = require "massact"
local intervention = require "massact.intervention"
local paper = require "massact.paper"
local tokens_analysis = require "massact.tokens_analysis"

local opt = massact.options(paper.options {
  calibration_windows = { "integer", default = 50, help = "windows to find layers, tokens and dims in; 0: all" },
  mean_windows = { "integer", default = 100, help = "windows to take means over; 0: all" },
}, "Perplexity with massive activations set to zero and to their mean.")

local run = massact.run(opt)
local results = run:results(function()
  local calibration = intervention.calibration_windows(run)
  local found, sequences = run:timed("tokens_analysis", tokens_analysis.find, run, calibration.tokens)
  tokens_analysis.write(run, found, sequences, calibration.tokens)

  local means = found.first_layer and run:timed("means", intervention.means, run, calibration, sequences, found.dims) or {}
  local planned = intervention.plan(found, means)
  local texts = run:timed("perplexity", intervention.evaluate, run, found, planned)
  intervention.write(run, found, means, planned, texts)
  return intervention.results(tokens_analysis.results(run, found, sequences), found, means, planned, texts)
end)

intervention.report(run, results)
run:csv("intervention.csv", { "text", "intervention", "perplexity", "windows" }, intervention.rows(results))
run:draw("perplexity.png", intervention.figure(results))
run:draw("magnitude_by_layer.png",
  tokens_analysis.figure(results.model, results.magnitude_by_layer.max, results.magnitude_by_layer.median))
run:finish()
