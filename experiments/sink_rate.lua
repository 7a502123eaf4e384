-- Which heads rest on the first token?  Gu et al. 2024 (arXiv 2410.10781), section 3: the share of heads whose mean attention to a key is
-- above epsilon, over windows of 64 tokens; beside attention to massive tokens, entropy, and the norms of values (Fesser et al. 2026).
local massact = require "massact"
local options = require "massact.options"
local paper = require "massact.paper"
local sinks = require "massact.sinks"

local opt = massact.options(paper.options {
  context_length = { "integer", default = massact.statistics.sink.context_length, help = "tokens a window" },
  calibration_windows = { "integer", default = 100, help = "windows of the calibration texts; 0: all" },
  epsilon = { "number", default = massact.statistics.sink.epsilon, help = "mean attention above which a key is a head's sink" },
}, "The share of heads for which the first token is an attention sink, and what goes with it.")
if opt.epsilon <= 0 or opt.epsilon >= 1 then options.usage_error("--epsilon must be between 0 and 1") end

local run = massact.run(opt)
local results = run:results(function() return run:timed("sinks", sinks.measure, run, run:calibration(), opt.epsilon) end)

sinks.report(run, results)
sinks.write(run, results)
run:draw("sink_rate_by_head.png", sinks.heads_figure(results))
run:draw("sink_rate.png", sinks.figure(results))
run:finish()
