-- How far from normal are activations, layer by layer?  The three things called kurtosis (Bondarenko et al. 2023, arXiv 2306.12929; He et al.
-- 2024, arXiv 2405.19279; llama-imatrix), the first token apart (Kaul et al. 2024, arXiv 2410.17174), and outlier dims (Dettmers et
-- al. 2022, arXiv 2208.07339; Macocco et al. 2025, arXiv 2503.21718).
local kurtosis = require "massact.kurtosis"
local massact = require "massact"
local paper = require "massact.paper"

local opt = massact.options(paper.options(), "Three kurtoses by layer, with and without the first token, and outlier dims by two rules.")

local run = massact.run(opt)
local results = run:results(function(model)
  return run:timed("kurtosis", kurtosis.measure, model, run:calibration(), { label = "kurtosis", place = run.place })
end)

kurtosis.report(run, results)
kurtosis.write(run, results)
run:draw("kurtosis.png", kurtosis.figure(results))
run:finish()
