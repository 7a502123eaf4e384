-- Would the model run in f16?  The largest magnitude at each layer and point beside the largest that f16 holds, 65504: Gemma 3's massive
-- activations are above it (Owen et al. 2025, arXiv 2503.22329, and what f16 users report).
local massact = require "massact"
local overflow = require "massact.overflow"
local paper = require "massact.paper"

local opt = massact.options(paper.options {
  context_length = { "integer", default = 512, help = "tokens a window" },
  points = { "texts", help = "points of the layers, a list: mid,out,attn.scores,mlp.act ...; default: those that f16 models store" },
}, "Largest magnitudes by layer and point, their share of f16's range, and how many elements would overflow.")

local run = massact.run(opt)
local results = run:results(function() return run:timed("overflow", overflow.measure, run, run:calibration(), opt.points) end)

overflow.report(run, results)
overflow.write(run, results)
run:draw("overflow.png", overflow.shares_figure(results))
run:draw("overflow_by_layer.png", overflow.figure(results))
run:finish()
