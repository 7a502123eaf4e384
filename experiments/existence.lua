-- Does the model have massive activations?  Owen et al. 2025 (arXiv 2503.22329), section 3, existence_validation: each layer's
-- largest and median magnitude, averaged over calibration windows; massive where the first is above 100 and at least 1000
-- times the second.
local massact = require "massact"
local existence = require "massact.existence"
local paper = require "massact.paper"
local tokens_analysis = require "massact.tokens_analysis"

local opt = massact.options(paper.options(), "Largest and median magnitude by layer, and which layers are massive.")

local run = massact.run(opt)
local results = run:results(function()
  local found = run:timed("existence", existence.measure, run, run:calibration())
  existence.write(run, found)
  return found
end)

if #results.massive_layers > 0 then
  run:say("massive activations in the outputs of layers %s", table.concat(results.massive_layers, ", "))
else
  run:say("no massive activations in %d windows; the largest ratio is %.4g, at layer %d", results.calibration_windows,
    existence.closest(results))
end
local rows = {}
for l = 1, results.n_layers do
  rows[l] = { l - 1, results.mean_max[l], results.mean_median[l], results.mean_max[l] / results.mean_median[l] }
end
run:csv("existence.csv", { "layer", "mean_max", "mean_median", "ratio" }, rows)
run:draw("existence.png", tokens_analysis.figure(results.model, results.mean_max, results.mean_median))
run:finish()
