-- Through which layers and positions does an answer go?  Activation patching, Meng et al. 2022 (arXiv 2202.05262), Zhang and Nanda 2023
-- (arXiv 2309.16042): one activation of a clean prompt at a time, put into the pass of a corrupt one, and how much of the clean answer
-- comes back.
local massact = require "massact"
local paper = require "massact.paper"
local patching = require "massact.patching"

local opt = massact.options(paper.options {
  clean = { "string", default = "The capital of France is the city of", help = "prompt whose activations are put in" },
  corrupt = { "string", default = "The capital of Poland is the city of", help = "prompt that they are put into; as many tokens" },
  answer = { "string", help = "its first token is the answer to the clean prompt; default: what the model predicts" },
  wrong = { "string", help = "its first token is the answer to the corrupt prompt; default: what the model predicts" },
  point = { "choice", default = "out", choices = { "out", "attn.out", "mlp.out" }, help = "what is put in, of each layer" },
  metric = { "choice", default = "logit_difference", choices = { "logit_difference", "probability" },
    help = "of the answer against the wrong one, or of the answer alone" },
}, "How much of a clean prompt's answer one of its activations brings back into a corrupt prompt, by layer and position.")

local run = massact.run(opt)
local results = run:results(function() return run:timed("patching", patching.measure, run) end)

run:say("clean   %s, answer '%s'", paper.quoted(results.clean.tokens), results.answer.token)
run:say("corrupt %s, answer '%s'", paper.quoted(results.corrupt.tokens), results.wrong.token)
run:say("%s: clean %.4g, corrupt %.4g", results.options.metric, results.clean_score, results.corrupt_score)
local rows = patching.table(results)
run:csv("patching.csv", patching.columns, rows)
table.sort(rows, function(a, b) return a[5] > b[5] end)
for i = 1, math.min(5, #rows) do
  run:say("  %.3f comes back through %s of layer %d, position %d '%s'", rows[i][5], results.options.point, rows[i][1], rows[i][2], rows[i][3])
end
run:draw("patching.png", patching.figure(results))
run:draw("patching_layers.png", patching.layers_figure(results))
run:finish()
