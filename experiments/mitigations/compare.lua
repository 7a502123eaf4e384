-- Which mitigations keep a model from growing massive activations, and at what price?  Owen et al. 2025 (arXiv 2503.22329), section 5: the same
-- small model and data under each list of mitigations, here with several seeds; the paper's table and two figures.  A sweep of
-- mitigations/train.lua: started again, it goes on where it was.
local massact = require "massact"
local comparison = require "massact.recipe.comparison"
local keyed = require "massact.keyed"
local recipe_options = require "massact.recipe.options"
local training = require "massact.recipe.training"
local variant = require "massact.recipe.variant"

local own = {
  variants = { "list", default = variant.of_paper, help = "lists of mitigations: none, kv_bias, dyt, tvr, kv_bias+tvr ..." },
  seeds = { "list", default = { "1", "2", "3" }, help = "of first weights and the order of the data: every variant is trained with each" },
  save_dir = { "folder", default = "./massactivation_outputs/compare", help = "where the trainings, tables and figures go" },
  jobs = { "integer", help = "trainings at a time; default: as many as there are cores" },
  dry_run = { "boolean", default = false, help = "show what would be trained, and train nothing" },
}
local opt = massact.options(recipe_options.declared(keyed.merged(own, { restart = false })),
  "Train the same model under each of several mitigations, and compare magnitudes, perplexity, sinks and scores.")
local folder = (opt.redraw or opt.save_dir):gsub("(.)/+$", "%1")

-- Tables and figures, from what was gathered.
local function write(found)
  for name, text in pairs { ["table.md"] = comparison.markdown(found), ["table.csv"] = comparison.csv(found), ["runs.csv"] = comparison.runs_csv(found) } do
    massact.system.write(folder .. "/" .. name, text)
  end
  comparison.layers_figure(found):save(("%s/magnitude_by_layer.%s"):format(folder, opt.format))
  comparison.scores_figure(found):save(("%s/score_over_tokens.%s"):format(folder, opt.format))
  io.write(comparison.markdown(found))
  print(("%s/: table.md, table.csv, runs.csv, magnitude_by_layer.%s, score_over_tokens.%s"):format(folder, opt.format, opt.format))
end

if opt.redraw then return write(massact.json.load(folder .. "/compare.json")) end

-- Every variant is a case with every seed.
local names, cases, seeds, seen = {}, {}, recipe_options.seeds(opt), {}
for _, text in ipairs(opt.variants) do
  local mitigations = variant.mitigations(text, "variants")
  local name = variant.name(mitigations)
  if not seen[name] then
    names[#names + 1], seen[name] = name, true
    cases[#cases + 1] = { name = name, mitigations = #mitigations > 0 and name or "none" }
  end
end
local fixed = recipe_options.fixed(opt, own, folder)
opt.cache = fixed.cache
if not opt.dry_run then training.check(opt) end

massact.sweep({
  experiment = "mitigations/train", fixed = fixed, cases = cases, cross = { seed = seeds }, results = { "existence.largest.max", "existence.largest.ratio",
    "perplexity", "quantisation.perplexity.both", "sinks.sink_rate", "accuracy", "timings.tokens_per_second" },
  report = function(entries)
    local done = {}
    for _, entry in ipairs(entries) do if entry.state == "done" then done[#done + 1] = entry.results end end
    local found = keyed.merged(comparison.gather(names, done), { experiment = "compare", options = keyed.merged(opt), massact = massact.version })
    massact.json.save(folder .. "/compare.json", found)
    write(massact.json.load(folder .. "/compare.json"))
    return {}
  end,
}, { out = folder, jobs = opt.jobs, dry_run = opt.dry_run }, "compare")
