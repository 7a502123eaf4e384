-- Training: batches in, steps of an optimiser, checkpoints that a run goes on from, a log, a curve, callbacks at named moments.
--
--   massact.train { model = model, loader = loader, steps = 1000, folder = "run", optimizer = { rate = 3e-3 }, schedule = { warmup = 100 } }
local core = require "massact.core"
local checkpoints = require "massact.train.checkpoint"
local logs = require "massact.train.log"
local mitigations = require "massact.mitigation"
local optimizers = require "massact.train.optimizer"
local plot = require "massact.plot"
local schedules = require "massact.train.schedule"
local settings = require "massact.settings"

local M = {}

---@class massact.Training
---@field model massact.Model in f32, or bf16 or f16 weights with f32 master copies; it is changed
---@field loader massact.Loader or whatever else has next, state, restore and batches: [B, T] ids, of which all but the first are predicted
---@field steps integer of the optimiser
---@field folder string for the log and checkpoints; a run that is there goes on from its last checkpoint
---@field optimizer? massact.OptimizerOptions
---@field schedule? massact.Schedule
---@field accumulate? integer batches a step (1)
---@field evaluation? massact.Loader its first `evaluation_batches` batches, every `evaluate_every` steps
---@field evaluate_every? integer steps (0: at the end)
---@field evaluation_batches? integer (8)
---@field checkpoint_every? integer steps (0: at the end)
---@field keep? integer checkpoints (2)
---@field callbacks? table<string, fun(trainer: massact.Trainer)> before_step, after_step, after_evaluation, after_checkpoint, at_end
---@field label? string of the progress line

---@class massact.Trainer what callbacks get
---@field model massact.Model
---@field optimizer massact.Optimizer
---@field loader massact.Loader
---@field step integer steps done
---@field steps integer
---@field tokens integer trained on
---@field loss? number of the last step
---@field log table
---@field options massact.Training

local declared = {
  model = { "any", noun = "a model", needed = true }, loader = { "table", noun = "a loader", needed = true },
  steps = { "integer", least = 0, needed = true }, folder = { "string", needed = true }, optimizer = { "table" }, schedule = { "table" },
  accumulate = { "integer", least = 1, default = 1 }, evaluation = { "table", noun = "a loader" },
  evaluate_every = { "integer", least = 0, default = 0 }, evaluation_batches = { "integer", least = 1, default = 8 },
  checkpoint_every = { "integer", least = 0, default = 0 }, keep = { "integer", least = 1, default = 2 }, callbacks = { "table", default = {} },
  label = { "string", default = "training" },
}

-- ---- callbacks ----

-- The user's and those of the mitigations that the model was made with, by moment.
local function callbacks_of(o)
  local by_moment = {}
  local function add(moment, call)
    by_moment[moment] = by_moment[moment] or {}
    table.insert(by_moment[moment], call)
  end
  local about = type(o.model.config) == "table" and o.model.config.massact
  for name, own in pairs(type(about) == "table" and about.mitigations or {}) do
    for moment, call in pairs(mitigations.named(name).callbacks or {}) do
      add(moment, function(trainer) call(trainer, own) end)
    end
  end
  for moment, call in pairs(o.callbacks) do add(moment, call) end
  return by_moment
end

local function tell(trainer, moment)
  for _, call in ipairs(trainer.callbacks[moment] or {}) do call(trainer) end
end

-- ---- what can go wrong ----

-- The first point at which values are not finite, for the message.
local function first_not_finite(model, batch)
  local found
  local hook <close> = model:point "**":hook(function(x, at)
    if not found and x:isfinite():all():item() == 0 and not at.name:find "scores" then found = at.name end
  end)
  pcall(model.forward, model, batch)
  return found
end

local function diverged(trainer, batch, what)
  local steps = checkpoints.steps(trainer.options.folder)
  local where = first_not_finite(trainer.model, batch)
  error(("step %d: the %s is not finite%s; %s; a lower learning rate, a longer warm-up or clipping may help"):format(trainer.step + 1, what,
    where and (", from '%s' on"):format(where) or "", #steps > 0 and ("the checkpoint of step %d is kept"):format(steps[#steps]) or "there is no checkpoint"), 0)
end

local function is_finite(x) return x == x and math.abs(x) < math.huge end

-- ---- a step ----

local function train_step(trainer)
  local o, sum = trainer.options, 0
  local n, batch = o.accumulate, nil
  for _ = 1, n do
    batch = trainer.loader:next()
    local loss = trainer.model:loss(batch)
    sum = sum + loss:item() / n
    if not is_finite(sum) then diverged(trainer, batch, "loss") end
    if n > 1 then loss = loss * (1 / n) end
    loss:backward()
    trainer.tokens = trainer.tokens + batch:size(0) * (batch:size(1) - 1)
  end
  local factor, norm = trainer.schedule(trainer.step + 1), trainer.optimizer:gradient_norm()
  if not is_finite(norm) then diverged(trainer, batch, "gradient") end
  trainer.optimizer:step(factor, norm)
  trainer.step, trainer.loss, trainer.gradient_norm, trainer.factor = trainer.step + 1, sum, norm, factor
end

-- ---- evaluation, checkpoints, pictures ----

---Mean loss over the first batches of a loader, in nats.
---@param model massact.Model
---@param loader massact.Loader
---@param batches integer
---@return number
function M.evaluate(model, loader, batches)
  local sum, n, seen = 0, 0, 0
  for batch in loader:batches() do
    local weight = batch:size(0) * (batch:size(1) - 1)
    sum, n, seen = sum + model:forward(batch, { loss = true }).loss * weight, n + weight, seen + 1
    if seen == batches then break end
  end
  return sum / n
end

local function curve(trainer)
  local log, o = trainer.log, trainer.options
  local figure = plot.figure { title = trainer.model.name, x_label = "Step", y_label = "Loss (nats a token)", integers = true }
  local steps, losses = log:column "loss"
  if #steps == 0 then return end
  figure:line { x = steps, y = losses, label = "training", color = "steelblue" }
  local at, evaluated = log:column "evaluation_loss"
  if #at > 0 then figure:line { x = at, y = evaluated, label = "evaluation", color = "orange", marker = true } end
  figure:save(o.folder .. "/loss.png")
end

local function is_due(every, trainer) return trainer.step == trainer.steps or (every > 0 and trainer.step % every == 0) end

local function after_step(trainer, seconds)
  local o = trainer.options
  local record = { step = trainer.step, tokens = trainer.tokens, loss = trainer.loss, gradient_norm = trainer.gradient_norm,
    rate = trainer.factor * trainer.optimizer.options.rate, tokens_per_second = (trainer.tokens - trainer.tokens_before) / seconds }
  trainer.record = record
  tell(trainer, "after_step")
  if o.evaluation and is_due(o.evaluate_every, trainer) then
    record.evaluation_loss = M.evaluate(trainer.model, o.evaluation, o.evaluation_batches)
    trainer.evaluation_loss = record.evaluation_loss
    tell(trainer, "after_evaluation")
  end
  trainer.log:add(record)
  if is_due(o.checkpoint_every, trainer) then
    checkpoints.save(o.folder, trainer, o.keep)
    trainer.log:csv()
    curve(trainer)
    tell(trainer, "after_checkpoint")
  end
end

---Trains a model, or goes on where the folder's last checkpoint is.
---@param options massact.Training
---@return massact.Trainer trainer with `step`, `tokens`, `loss`, `log`
function M.train(options)
  local o = settings.take("train", options, declared)
  core.system.make_folder(o.folder)
  local trainer = { model = o.model, loader = o.loader, options = o, steps = o.steps, step = 0, tokens = 0,
    optimizer = optimizers.new(o.model, o.optimizer), schedule = schedules.schedule(o.schedule, o.steps), callbacks = callbacks_of(o) }
  checkpoints.restore(o.folder, trainer)
  local log <close> = logs.open(o.folder, trainer.step)
  trainer.log = log
  local progress <close> = core.system.progress(o.label, o.steps)
  while trainer.step < o.steps do
    local since = core.system.clock()
    trainer.tokens_before = trainer.tokens
    tell(trainer, "before_step")
    train_step(trainer)
    after_step(trainer, core.system.clock() - since)
    progress:update(trainer.step)
  end
  log:csv()
  curve(trainer)
  tell(trainer, "at_end")
  return trainer
end

return M
