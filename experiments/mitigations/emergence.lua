-- How do massive activations grow while a model is trained?  The three largest magnitudes and the median by layer over steps, fitted with the
-- five-parameter curve of Gallego-Feliciano et al. 2025 (arXiv 2508.03616); of trainings of mitigations/train.lua, of checkpoints whose
-- names tell their steps (as Pythia's revisions), or of trainings with several seeds, made here.
local keyed = require "massact.keyed"
local massact = require "massact"
local options = require "massact.options"
local over_training = require "massact.recipe.over_training"
local records = require "massact.recipe.records"
local recipe_options = require "massact.recipe.options"
local training = require "massact.recipe.training"
local variant = require "massact.recipe.variant"

local own = {
  runs = { "list", help = "folders of mitigations/train.lua, seeds of one training: what they have recorded" },
  checkpoints = { "list", help = "folders of checkpoints whose names end in their step (step1000), or folders of such ones" },
  pretrained = { "model", help = "one checkpoint: measure this one only" },
  dtype = { "dtype", default = "f32", help = "what checkpoints compute in" },
  fit = { "list", default = { "top1", "ratio" }, help = "what the curve is fitted to: top1, top2, top3, median, ratio" },
  mitigations = { "list", default = { "none" }, help = "of the trainings that are made here" },
  seeds = { "list", default = { "42" }, help = "of the trainings that are made here" },
  save_dir = { "folder", default = "./massactivation_outputs/emergence", help = "where results go" },
  jobs = { "integer", help = "checkpoints or trainings at a time; default: as many as there are cores" },
}
local opt = massact.options(recipe_options.declared(keyed.merged(own, { restart = false })),
  "Massive activations over training: magnitudes by layer and step, with the curve that they follow.")
local folder = (opt.redraw or opt.save_dir):gsub("(.)/+$", "%1")
for _, name in ipairs(opt.fit) do
  if not over_training.quantities[name] then options.usage_error("--fit: '%s' is none of %s", name, options.names(over_training.quantities)) end
end

-- One checkpoint: a case of the sweep below.
if opt.pretrained then
  local found = records.measure(opt)
  massact.system.make_folder(folder)
  return massact.json.save(folder .. "/results.json", found)
end

-- The results of a sweep's cases, once all have them.
local function swept(config)
  local results = {}
  config.report = function(entries)
    for i, entry in ipairs(entries) do results[i] = entry.results end
    return {}
  end
  massact.sweep(config, { out = folder, jobs = opt.jobs }, "emergence")
  return results
end

local find = {}

function find.runs()
  local runs = {}
  for i, path in ipairs(opt.runs) do runs[i] = { name = path, records = records.of_training(path) } end
  return runs
end

function find.checkpoints()
  local cases, passed = {}, {}
  for i, each in ipairs(records.checkpoints(opt.checkpoints)) do cases[i] = { name = "step-" .. each.step, pretrained = each.path } end
  for _, name in ipairs { "data", "data_dir", "field", "context", "bos_windows", "record_windows", "dtype" } do passed[name] = opt[name] end
  return { { name = table.concat(opt.checkpoints, ","), records = swept { experiment = "mitigations/emergence", fixed = passed, cases = cases, results = { "step" } } } }
end

function find.trainings()
  local names, runs = variant.mitigations(opt.mitigations), {}
  local fixed = recipe_options.fixed(opt, keyed.amended(own, { mitigations = false }), folder)
  opt.cache = fixed.cache
  training.check(opt)
  fixed.mitigations = #names > 0 and variant.name(names) or "none"
  for i, r in ipairs(swept { experiment = "mitigations/train", fixed = fixed, cross = { seed = recipe_options.seeds(opt) },
    results = { "existence.largest.max", "existence.largest.ratio" } }) do
    runs[i] = { name = r.model, records = {} }
    for _, each in ipairs(r.records) do if each.magnitudes then table.insert(runs[i].records, each) end end
  end
  return runs
end

local results
if opt.redraw then
  results = massact.json.load(folder .. "/emergence.json")
else
  local found = over_training.gather(find[opt.runs and "runs" or opt.checkpoints and "checkpoints" or "trainings"](), opt.fit)
  massact.system.make_folder(folder)
  massact.json.save(folder .. "/emergence.json", keyed.merged(found, { experiment = "emergence", options = keyed.merged(opt), massact = massact.version }))
  results = massact.json.load(folder .. "/emergence.json")
end

for _, line in ipairs(over_training.lines(results)) do print(line) end
for name, text in pairs { ["emergence.csv"] = over_training.csv(results), ["fit.csv"] = over_training.fit_csv(results), ["fit.md"] = over_training.fit_markdown(results) } do
  massact.system.write(folder .. "/" .. name, text)
end
over_training.figure(results, #results.runs > 1 and ("Mean and range of %d seeds"):format(#results.runs) or results.runs[1]:match "[^/]*$")
  :save(("%s/emergence.%s"):format(folder, opt.format))
print(("%s/: emergence.csv, fit.csv, fit.md, emergence.%s, emergence.json"):format(folder, opt.format))
