-- Where does a sentence's attention go?  Owen et al. 2025 (arXiv 2503.22329), figure of self_attention: the mean over heads of each
-- layer's attention logits (or probabilities), a heat map a layer.
local massact = require "massact"
local components = require "massact.components"
local paper = require "massact.paper"
local pictures = require "massact.component_plots"

local run = massact.run(massact.options(paper.options(), "Attention of a sentence, a heat map a layer: mean over heads."))
local point = run.options.show_logits and "attn.scores" or "attn.probs"

-- Row q holds what query q gives to keys 0..q; `extra` what the queries give to a learned key in front.
local function triangle(x, has_extra)
  local mean = x:mean(0):totable()
  local rows, extra, first = massact.json.array {}, has_extra and massact.json.array {} or nil, has_extra and 1 or 0
  for q, row in ipairs(mean) do
    if extra then extra[q] = row[1] end
    rows[q] = massact.json.array(table.move(row, first + 1, first + q, 1, {}))
  end
  return { rows = rows, extra_kv = extra }
end

local results = run:results(function(model)
  local focus = components.focus(run)
  local layers = components.each_layer(model, focus.sentence.ids, { point }, function(at)
    return triangle(at[point], model.spec.kv_bias)
  end)
  return { focus = focus, shows = point, layers = layers }
end)

components.report(run, results.focus)
local rows, tokens = {}, results.focus.sentence.tokens
for l, layer in ipairs(results.layers) do
  for q, row in ipairs(layer.rows) do
    if layer.extra_kv then rows[#rows + 1] = { l - 1, q - 1, "extra_kv", layer.extra_kv[q], tokens[q], "" } end
    for k, value in ipairs(row) do rows[#rows + 1] = { l - 1, q - 1, k - 1, value, tokens[q], tokens[k] } end
  end
end
run:csv("self_attention.csv", { "layer", "query", "key", "value", "query_token", "key_token" }, rows)
run:draw("self_attention.png", pictures.attention(results))
run:finish()
