-- One training of a recipe, from texts to a folder that holds the model (as Hugging Face has them), its checkpoints, log, results and
-- pictures.  Killed at any moment, it goes on from the last checkpoint.
local checkpoints = require "massact.train.checkpoint"
local core = require "massact.core"
local growth = require "massact.recipe.growth"
local keyed = require "massact.keyed"
local massact = require "massact"
local measures = require "massact.recipe.measures"
local options = require "massact.options"
local recipe_options = require "massact.recipe.options"
local texts = require "massact.recipe.texts"
local variant = require "massact.recipe.variant"

local M = {}

-- ---- going on, or beginning anew ----

-- The first setting in which two trainings differ.
local function difference(was, now)
  for _, name in ipairs(keyed.keys(keyed.merged(was, now))) do
    local before, here = was[name], now[name]
    if before == nil or here == nil or core.json.text(before) ~= core.json.text(here) then return name, before, here end
  end
end

local function shown(value)
  return value == nil and "not set" or type(value) == "table" and (core.json.text(value):gsub("%s+", " ")) or tostring(value)
end

-- Whether a folder's checkpoints are of this training.  Another one's stay, unless --restart says that they may go.
local function settle(folder, opt, made_by)
  local path, now = folder .. "/training.json", core.json.parse(core.json.text(made_by))
  if core.system.exists(path) and #checkpoints.steps(folder) > 0 then
    local name, before, here = difference(core.json.load(path), now)
    if name and not opt.restart then
      options.usage_error("%s holds a training with another %s (%s, now %s); another --save_dir keeps it, --restart begins anew", folder, name,
        shown(before), shown(here))
    end
    if name then checkpoints.forget(folder) end
  end
  core.json.save(path, made_by)
end

-- ---- training ----

local function train(opt, folder, model, prepared, windows, sets)
  local evaluation = texts.evaluation(opt, prepared)
  return massact.train {
    model = model, loader = texts.training(opt, prepared), folder = folder, steps = opt.steps, label = model.name,
    optimizer = { rate = opt.rate, weight_decay = opt.weight_decay, eps = opt.adam_eps, clip = opt.clip > 0 and opt.clip or nil },
    schedule = { kind = "cosine", warmup = opt.warmup, final = opt.final_rate },
    evaluation = evaluation, evaluate_every = opt.record_every, evaluation_batches = math.ceil(opt.record_windows / evaluation.options.batch),
    checkpoint_every = opt.checkpoint_every, keep = opt.keep > 0 and opt.keep or opt.steps + 1,
    callbacks = growth.callbacks(opt, windows, sets),
  }
end

-- The records that hold more than losses, and the median of tokens a second.
local function of_log(log)
  local records, speeds = massact.json.array(), {}
  for _, record in ipairs(log.records) do
    speeds[#speeds + 1] = record.tokens_per_second
    if record.magnitudes or record.score or record.evaluation_loss then
      records[#records + 1] = { step = record.step, tokens = record.tokens, loss = record.loss, evaluation_loss = record.evaluation_loss,
        score = record.score, magnitudes = record.magnitudes }
    end
  end
  table.sort(speeds)
  return records, speeds[(#speeds + 1) // 2]
end

local function n_parameters(model)
  local n = 0
  for _, tensor in pairs(model:parameters()) do
    local size = 1
    for _, length in ipairs(tensor:shape()) do size = size * length end
    n = n + size
  end
  return n
end

---Whether the options, the texts and the items will do, without training; what will not is an error.
---@param opt table
function M.check(opt)
  recipe_options.settled(opt)
  growth.sets(opt)
  variant.mitigations(opt.init, "init")
  local prepared = texts.prepare(opt)
  texts.training(opt, prepared):close()
  texts.evaluation(opt, prepared):close()
end

---Trains a variant, unless the folder has it already, and measures the model that was saved.
---@param opt table what the options of massact.recipe.options gave
---@param words string|string[] mitigations
---@return table results as results.json has them
---@return string folder
function M.run(opt, words)
  recipe_options.settled(opt)
  local names, begun = variant.mitigations(words), core.system.clock()
  local sets, prepared = growth.sets(opt), texts.prepare(opt)
  local model = variant.model(opt, names, prepared.tokenizer, prepared.path)
  local folder = ("%s/%s"):format(opt.save_dir, model.name)
  core.system.make_folder(folder)
  settle(folder, opt, keyed.merged(recipe_options.of_training(opt), { mitigations = massact.json.array(names), seed = opt.seed,
    texts = prepared.sha256, tokenizer = prepared.tokenizer:sha256() }))

  local held_out = texts.evaluation(opt, prepared)
  local trainer = train(opt, folder, model, prepared, texts.windows(held_out, opt.record_windows), sets)
  model:save(folder)
  local trained = core.system.clock()

  -- What is measured is what was saved.
  local saved = massact.load(folder)
  local results = measures.of(saved, texts.windows(held_out, opt.evaluation_windows),
    texts.windows(texts.training(opt, prepared), opt.calibration_windows), sets, opt)
  local records, speed = of_log(trainer.log)
  for key, value in pairs {
    experiment = "train", model = saved.name, variant = variant.name(names), mitigations = massact.json.array(names), seed = opt.seed,
    family = saved.family, n_layers = saved.n_layers, n_parameters = n_parameters(model), vocab_size = prepared.tokenizer:size(),
    steps = trainer.step, tokens = trainer.tokens, loss = trainer.loss or records[#records].loss, records = records,
    options = keyed.merged(opt), config = model.config, data_sha256 = prepared.sha256, massact = massact.version,
    machine = core.system.machine(), timings = { tokens_per_second = speed, training = trained - begun,
      evaluation = core.system.clock() - trained, peak_memory_bytes = core.system.peak_memory() },
  } do results[key] = value end
  core.json.save(folder .. "/results.json", results)
  return core.json.load(folder .. "/results.json"), folder
end

return M
