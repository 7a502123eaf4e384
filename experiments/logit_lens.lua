-- What would the model say if it ended after this layer?  The logit lens (nostalgebraist 2020, "interpreting GPT: the logit lens"): each
-- layer's output of one sentence through final norm and head.
local massact = require "massact"
local detect = require "massact.detect"
local lens = require "massact.lens"
local paper = require "massact.paper"

local opt = massact.options(paper.options {
  show = { "choice", default = "probability", choices = { "probability", "entropy" }, help = "what the colours of the picture are" },
}, "What each layer's output of a sentence predicts, and how likely it holds the token that follows.")

local run = massact.run(opt)
local results = run:results(function(model)
  local sentence = run:sentence()
  sentence.massive = massact.json.array(detect.positions(detect.sequences(model, { sentence.ids })[1]))
  return { sentence = sentence, rows = run:timed("lens", lens.measure, model, sentence.ids) }
end)

run:say("%s", paper.quoted(results.sentence.tokens))
for _, row in ipairs(results.rows) do
  run:say("  %-5s %s%s", row.layer, row.loss and ("loss %-6.4g "):format(row.loss) or "", paper.quoted(row.token))
end
run:csv("logit_lens.csv", lens.columns, lens.table(results))
run:draw("logit_lens.png", lens.figure(results, results.options.show))
if #results.sentence.ids > 1 then run:draw("logit_lens_rank.png", lens.rank_figure(results)) end
run:finish()
