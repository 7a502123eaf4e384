-- What do massive tokens add to the attention's output?  Sun et al. 2024 (arXiv 2402.17762), section 4.3: the output split by key into value
-- updates, those of massive tokens (nearly the same at every query: a bias) and the rest, by layer.
local massact = require "massact"
local components = require "massact.components"
local decomposition = require "massact.decomposition"
local paper = require "massact.paper"
local pictures = require "massact.component_plots"

local run = massact.run(massact.options(paper.options(), "The attention's output split into what massive tokens and what the others add, by layer."))

local results = run:results(function(model)
  local focus = components.focus(run)
  local queries = components.queries(focus)
  if #queries == 0 then error("--sentence: no token stands behind the massive one; decomposition looks at those that do", 0) end
  local layers = components.each_layer(model, focus.sentence.ids, decomposition.points, function(at, layer)
    return decomposition.measure(decomposition.terms(model, layer, at, focus.positions), at["attn.proj"], queries)
  end)
  return { focus = focus, queries = queries, layers = layers }
end)

components.report(run, results.focus)
local rows = {}
for l, layer in ipairs(results.layers) do
  for _, term in ipairs(decomposition.names) do
    local size = layer[term]
    if size then rows[#rows + 1] = { l - 1, term, size.norm, size.share, size.constancy } end
  end
end
run:csv("attention_decomposition.csv", { "layer", "term", "mean_length", "share", "constancy" }, rows)
run:draw("attention_output_decomposition.png", pictures.decomposition(results))
run:finish()
