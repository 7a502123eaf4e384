-- Where is a massive activation written?  After Sun et al. 2024 (arXiv 2402.17762), as published with Owen et al. 2025: what goes in and out
-- of the MLP at massive and at ordinary tokens, and what attention and MLP add to the massive entry, layer by layer.
local massact = require "massact"
local components = require "massact.components"
local paper = require "massact.paper"
local pictures = require "massact.component_plots"

local opt = massact.options(paper.options { layer = components.layer_option },
  "What goes in and out of the MLP, and what each layer adds to the massive activations.")
local run = massact.run(opt)

local stages = { { "mlp.norm", "Into the MLP" }, { "mlp.act", "Into its down projection" }, { "mlp.out", "Out of the MLP" } }

local results = run:results(function(model)
  local focus, panels = components.focus(run, true), massact.json.array {}
  local close_up = components.close_up(run, focus.first_layer)
  local points = { "in", "attn.out", "mlp.norm", "mlp.act", "mlp.out" }
  local layers = components.each_layer(model, focus.sentence.ids, points, function(at, layer)
    local sizes = {}
    for _, stage in ipairs(stages) do
      local x = at[stage[1]]
      sizes[stage[1]] = components.sizes(x, focus)
      if x and layer == close_up then
        local massive = x:size(-1) == model.d_model and focus.dims or {}
        local dims = components.dims({ x }, massive, 32)
        panels[#panels + 1] = { title = stage[2], values = components.magnitudes(x, dims), dims = dims, own_dims = stage[1] == "mlp.act" }
      end
    end
    return { sizes = sizes, writes = components.writes(at, focus) }
  end)
  return { focus = focus, layers = layers, close_up = { layer = close_up, panels = panels } }
end)

components.report(run, results.focus)
local rows, writes, most = {}, {}, { step = 0 }
for l, layer in ipairs(results.layers) do
  components.add_rows(rows, { l - 1 }, layer.sizes)
  for _, w in ipairs(layer.writes) do
    writes[#writes + 1] = { l - 1, w.position, w.dim, w["in"], w.attention, w.mlp, w.out }
    for _, part in ipairs { "attention", "mlp" } do
      if math.abs(w[part]) > math.abs(most.step) then most = { step = w[part], who = part == "mlp" and "the MLP" or part, layer = l - 1, at = w } end
    end
  end
end
run:say("the largest step is %s's in layer %d: %.4g at position %d, dim %d", most.who, most.layer, most.step, most.at.position, most.at.dim)
run:csv("mlp.csv", components.columns("layer"), rows)
run:csv("mlp_writes.csv", { "layer", "position", "dim", "in", "attention", "mlp", "out" }, writes)
run:draw("mlp.png", pictures.close_up(results, 3))
run:draw("mlp_by_layer.png", pictures.mlp(results))
run:finish()
