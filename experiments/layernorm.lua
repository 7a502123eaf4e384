-- How does a norm flatten a massive token?  After Sun et al. 2024 (arXiv 2402.17762), section 4.2, as published with Owen et al. 2025: hidden
-- states before and after each norm of a layer, at massive and at ordinary tokens.
local massact = require "massact"
local components = require "massact.components"
local paper = require "massact.paper"
local pictures = require "massact.component_plots"

local opt = massact.options(paper.options { layer = components.layer_option },
  "Hidden states before and after the norms, by layer, and by token and dim in one layer.")
local run = massact.run(opt)

-- What goes into a norm: a point, or a sum of them.
local function input(at, norm)
  local x = at[norm.into[1]]
  for i = 2, #norm.into do x = x + at[norm.into[i]] end
  return x
end

local results = run:results(function(model)
  local focus, norms, points, panels = components.focus(run, true), components.norms(model), {}, massact.json.array {}
  local close_up = components.close_up(run, focus.first_layer + 1)
  for _, norm in ipairs(norms) do
    points[#points + 1] = norm.out
    table.move(norm.into, 1, #norm.into, #points + 1, points)
  end
  local layers = components.each_layer(model, focus.sentence.ids, points, function(at, layer)
    local sizes = massact.json.array {}
    for i, norm in ipairs(norms) do
      local before, after = input(at, norm), at[norm.out]
      sizes[i] = { before = components.sizes(before, focus), after = components.sizes(after, focus) }
      if layer == close_up then
        local dims = components.dims({ before, after }, focus.dims, 32)
        panels[#panels + 1] = { title = "Into the " .. norm.name, values = components.magnitudes(before, dims), dims = dims }
        panels[#panels + 1] = { title = "Out of the " .. norm.name, values = components.magnitudes(after, dims), dims = dims }
      end
    end
    return { norms = sizes }
  end)
  return { focus = focus, norms = norms, layers = layers, close_up = { layer = close_up, panels = panels } }
end)

components.report(run, results.focus)
local rows = {}
for l, layer in ipairs(results.layers) do
  for i, norm in ipairs(layer.norms) do components.add_rows(rows, { l - 1, results.norms[i].name }, norm) end
end
run:csv("layernorm.csv", components.columns("layer", "norm"), rows)
run:draw("layernorm.png", pictures.close_up(results, 2))
run:draw("layernorm_by_layer.png", pictures.norms(results))
run:finish()
