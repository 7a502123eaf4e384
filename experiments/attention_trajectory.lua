-- How much attention do massive tokens receive, by layer?  After Sun et al. 2024 (arXiv 2402.17762), section 4.1, as published with Owen
-- et al. 2025: a token's share of the attention of the tokens behind it, mean over these and over heads.
local massact = require "massact"
local components = require "massact.components"
local paper = require "massact.paper"
local pictures = require "massact.component_plots"

local run = massact.run(massact.options(paper.options(), "Attention that massive tokens receive from the tokens behind them, by layer."))

local results = run:results(function(model)
  local focus = components.focus(run)
  local layers = components.each_layer(model, focus.sentence.ids, { "attn.probs" }, function(at)
    return components.received(at["attn.probs"], focus, model.spec.kv_bias)
  end)
  return { focus = focus, queries = components.queries(focus), layers = layers }
end)

local null, tokens = massact.json.null, results.focus.sentence.tokens
components.report(run, results.focus)
local rows, most, where = {}, -1, nil
for l, layer in ipairs(results.layers) do
  for p, share in ipairs(layer.tokens) do rows[#rows + 1] = { l - 1, p - 1, tokens[p], share } end
  if layer.extra_kv then rows[#rows + 1] = { l - 1, "extra_kv", "", layer.extra_kv } end
  if layer.massive and layer.massive ~= null and layer.massive.mean > most then most, where = layer.massive.mean, l - 1 end
end
if where then run:say("they receive most at layer %d: %.1f %% of the attention of the %d tokens behind", where, 100 * most, #results.queries) end
run:csv("attention_trajectory.csv", { "layer", "position", "token", "received" }, rows)
run:draw("attention_trajec.png", pictures.trajectory(results))
run:finish()
