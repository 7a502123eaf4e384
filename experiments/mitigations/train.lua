-- What do mitigations do to massive activations?  Trains one small model under a list of them (attention KV bias, Sun et al. 2024; Dynamic
-- Tanh, Zhu et al. 2025; Target Variance Rescaling, Owen et al. 2025 ...), follows magnitudes and downstream items while it does, and measures
-- what was trained.  The folder that it writes is a model that every other experiment takes as --pretrained.
local massact = require "massact"
local recipe_options = require "massact.recipe.options"
local report = require "massact.recipe.report"
local training = require "massact.recipe.training"

local opt = massact.options(recipe_options.declared {
  mitigations = { "list", default = { "none" }, help = "names with commas between: kv_bias, dyt, tvr (lir, residual_init), or none" },
  seed = { "integer", default = 42, help = "of the first weights and of the order of the data" },
}, "Train a small model under mitigations, and measure its massive activations.")

local results, folder
if opt.redraw then
  folder = opt.redraw:gsub("(.)/+$", "%1")
  results = massact.json.load(folder .. "/results.json")
else
  results, folder = training.run(opt, opt.mitigations)
end

for _, line in ipairs(report.lines(results)) do print(line) end
local written = { ["by_layer.csv"] = report.by_layer(results), ["magnitudes.csv"] = report.by_step(results.records), ["scores.csv"] = report.scores(results.records) }
for name, text in pairs(written) do massact.system.write(folder .. "/" .. name, text) end
report.figure(results):save(("%s/magnitudes.%s"):format(folder, opt.format))
print(("%s/: a model, results.json, by_layer.csv, magnitudes.csv, scores.csv, magnitudes.%s, log.csv, loss.png"):format(folder, opt.format))
