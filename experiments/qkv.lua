-- How does a massive token become an attention bias?  After Sun et al. 2024 (arXiv 2402.17762), section 4.2, as published with Owen et al. 2025:
-- what goes into the attention's projections, the queries, keys and values that come out, and the scores that they give.
local massact = require "massact"
local components = require "massact.components"
local paper = require "massact.paper"
local pictures = require "massact.component_plots"

local opt = massact.options(paper.options { layer = components.layer_option },
  "What goes in and out of the query, key and value projections at massive tokens, and the scores that they get.")
local run = massact.run(opt)

local stages = { { "attn.norm", "Into the projections" }, { "attn.q", "Queries" }, { "attn.k", "Keys" }, { "attn.v", "Values" } }

local results = run:results(function(model)
  local focus, panels = components.focus(run, true), massact.json.array {}
  local close_up = components.close_up(run, focus.first_layer + 1)
  local points = { "attn.norm", "attn.q", "attn.k", "attn.v", "attn.scores" }
  local layers = components.each_layer(model, focus.sentence.ids, points, function(at, layer)
    local sizes = {}
    for i, stage in ipairs(stages) do
      local x = at[stage[1]]
      sizes[stage[1]] = components.sizes(x, focus)
      if layer == close_up then
        local dims = components.dims({ x }, i == 1 and focus.dims or {}, 32)
        panels[i] = { title = stage[2], values = components.magnitudes(x, dims), dims = dims, own_dims = i > 1 }
      end
    end
    return { sizes = sizes, scores = components.scores(at["attn.scores"], focus, model.spec.kv_bias) }
  end)
  return { focus = focus, layers = layers, close_up = { layer = close_up, panels = panels } }
end)

components.report(run, results.focus)
local rows, scores = {}, {}
for l, layer in ipairs(results.layers) do
  components.add_rows(rows, { l - 1 }, layer.sizes)
  if layer.scores then scores[#scores + 1] = { l - 1, layer.scores.massive, layer.scores.ordinary, layer.scores.extra_kv } end
end
run:csv("qkv.csv", components.columns("layer"), rows)
run:csv("qkv_scores.csv", { "layer", "massive", "ordinary", "extra_kv" }, scores)
run:draw("qkv.png", pictures.close_up(results, 4))
run:draw("qkv_by_layer.png", pictures.qkv(results))
run:finish()
