-- How large are the largest activations of one sentence, layer by layer?  Owen et al. 2025 (arXiv 2503.22329), figure of
-- top_activation_magnitude.
local massact = require "massact"
local detect = require "massact.detect"
local paper = require "massact.paper"
local tokens_analysis = require "massact.tokens_analysis"

local opt = massact.options(paper.options {
  top = { "integer", default = 3, help = "how many of the largest activations of a layer are listed" },
}, "The largest activations of a sentence and their median, by layer.")

local run = massact.run(opt)
local results = run:results(function(model)
  local sentence = run:sentence()
  local probe <close> = model:point(run.place.pattern):probe({ "median", "top" .. opt.top }, { entries = detect.criterion })
  local out = model:forward(sentence.ids, { loss = #sentence.ids > 1 })
  local results = { sentence = sentence, loss = out.loss, max = {}, median = {}, layers = {} }
  for l = 1, model.n_layers do
    local seen = probe[("layers.%d.%s"):format(l - 1, run.place.point)][1]
    local top = {}
    for i, e in ipairs(seen.top) do
      top[i] = { value = e.value, position = e.position, dim = e.dim, token = sentence.tokens[e.position + 1] }
    end
    results.layers[l] = { top = top, median = seen.median, n_massive = #seen.entries }
    results.max[l], results.median[l] = math.abs(top[1].value), seen.median
  end
  return results
end)

run:say("%s", paper.quoted(results.sentence.tokens))
local rows = {}
for l, layer in ipairs(results.layers) do
  for rank, e in ipairs(layer.top) do rows[#rows + 1] = { l - 1, rank, e.value, e.position, e.dim, e.token, layer.median } end
end
run:csv("top_activation.csv", { "layer", "rank", "value", "position", "dim", "token", "median" }, rows)
run:draw("top_activation_magnitude.png", tokens_analysis.figure(results.model, results.max, results.median))
run:finish()
