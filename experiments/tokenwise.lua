-- On which token and in which dim does a layer's output hold its large activations?  After figure 1 of Sun et al. 2024 (arXiv 2402.17762),
-- as published with Owen et al. 2025: magnitudes by token and dim, a panel a layer.
local massact = require "massact"
local components = require "massact.components"
local options = require "massact.options"
local paper = require "massact.paper"
local pictures = require "massact.component_plots"

local opt = massact.options(paper.options {
  dims = { "integer", default = 32, help = "dims shown: massive ones, each layer's largest, and ordinary ones between them; 0: all" },
}, "Magnitudes of a sentence's layer outputs by token and dim, a panel a layer.")
if opt.dims < 0 then options.usage_error("--dims %d: 0 or more", opt.dims) end
local run = massact.run(opt)

local results = run:results(function(model)
  local focus, outputs = components.focus(run), {}
  local point = run.place.point
  components.each_layer(model, focus.sentence.ids, { point }, function(at, layer) outputs[layer + 1] = at[point] end)
  local dims = components.dims(outputs, focus.dims, opt.dims > 0 and opt.dims or outputs[1]:size(-1))
  local layers = massact.json.array {}
  for l, x in ipairs(outputs) do layers[l] = components.magnitudes(x, dims) end
  return { focus = focus, point = point, dims = dims, layers = layers }
end)

components.report(run, results.focus)
local rows = {}
for l, layer in ipairs(results.layers) do
  for p, values in ipairs(layer) do
    for i, value in ipairs(values) do rows[#rows + 1] = { l - 1, p - 1, results.dims[i], value, results.focus.sentence.tokens[p] } end
  end
end
run:csv("tokenwise.csv", { "layer", "position", "dim", "magnitude", "token" }, rows)
run:draw("output_feature_tokenwise.png", pictures.tokenwise(results))
run:finish()
