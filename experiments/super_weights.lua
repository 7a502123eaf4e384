-- Is there one weight that makes the massive activation?  Yu et al. 2024 (arXiv 2411.07191): super weights, found in one pass at the
-- down projection's largest input and output, and tested by the perplexity without them, beside that of a control.
local massact = require "massact"
local paper = require "massact.paper"
local super_weights = require "massact.super_weights"

local opt = massact.options(paper.options {
  candidates = { "integer", default = 3, help = "layers' candidates to test, the largest contributions first; 0: only find" },
}, "Candidates for super weights, and perplexity with each set to zero, to its row's mean, and with a control set to zero.")

local run = massact.run(opt)
local results = run:results(function(model)
  local sentence = run:sentence()
  local found, by_layer = super_weights.find(model, sentence.ids)
  local candidates = table.move(found, 1, math.min(opt.candidates, #found), 1, massact.json.array())
  local texts, names = #candidates > 0 and run:texts() or {}, massact.json.array()
  for i, text in ipairs(texts) do names[i] = text.name end
  local original = run:timed("perplexity", super_weights.test, run, candidates, texts)
  return { sentence = sentence, by_layer = by_layer, candidates = candidates, original = original, text_names = names }
end)

run:say("%s", paper.quoted(results.sentence.tokens))
local rows = {}
for _, c in ipairs(results.by_layer) do
  rows[#rows + 1] = { c.layer, c.row, c.column, c.weight, c.input, c.output, c.share, c.position, results.sentence.tokens[c.position + 1] }
end
run:csv("super_weights.csv", { "layer", "row", "column", "weight", "input", "output", "share", "position", "token" }, rows)
rows = {}
for _, name in ipairs(results.text_names) do
  run:say("%s: %s", name, paper.perplexity(results.original[name]))
  for _, c in ipairs(results.candidates) do
    run:say("  layer %d, down projection [%d, %d] = %.4g: input %.4g, output %.4g at position %d, %.0f %% of it by this weight", c.layer, c.row,
      c.column, c.weight, c.input, c.output, c.position, 100 * c.share)
    for _, e in ipairs(c.edits) do
      rows[#rows + 1] = { name, c.layer, e.name, e.row, e.column, e.was, e.to, e.perplexity[name] }
      run:say("    %-10s [%d, %d] %.4g -> %.4g: %s", e.name, e.row, e.column, e.was, e.to, paper.perplexity(e.perplexity[name]))
    end
  end
end
run:csv("super_weights_perplexity.csv", { "text", "layer", "edit", "row", "column", "was", "to", "perplexity" }, rows)
run:draw("super_weights_spikes.png", super_weights.spikes_figure(results))
if #results.candidates > 0 then run:draw("super_weights.png", super_weights.figure(results)) end
run:finish()
