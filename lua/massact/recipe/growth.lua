-- What a training shows while it goes: the largest magnitudes and the median by layer, and how well the model answers downstream items.
-- They go into the training's log, with its losses, so that they resume with it.
local choices = require "massact.choices"
local massact = require "massact"

local M = {}

-- ---- magnitudes ----

---@class massact.Magnitudes by layer, from 1; means over windows
---@field top1 number[] the largest magnitude of a layer's output
---@field top2 number[]
---@field top3 number[]
---@field median number[]

---The magnitudes that Gallego-Feliciano et al. 2025 follow, at the layers' outputs.
---@param model massact.Model
---@param windows integer[][]
---@return massact.Magnitudes
function M.magnitudes(model, windows)
  local found = { top1 = {}, top2 = {}, top3 = {}, median = {} }
  local probe <close> = model:point("layers.*.out"):probe { "top3", "median" }
  local function add(name, l, value) found[name][l] = (found[name][l] or 0) + value / #windows end
  for first = 1, #windows, 8 do
    local batch = table.move(windows, first, math.min(first + 7, #windows), 1, {})
    model:forward(batch, { stop_at = ("layers.%d.out"):format(model.n_layers - 1) })
    for l = 1, model.n_layers do
      for b = 1, #batch do
        local seen = probe[("layers.%d.out"):format(l - 1)][b]
        for k = 1, 3 do add("top" .. k, l, math.abs(seen.top[k].value)) end
        add("median", l, seen.median)
      end
    end
  end
  return found
end

---The layer of the largest magnitude.
---@param magnitudes massact.Magnitudes
---@return integer layer from 0
---@return number top1
---@return number median
function M.largest(magnitudes)
  local best = 1
  for l, value in ipairs(magnitudes.top1) do if value > magnitudes.top1[best] then best = l end end
  return best - 1, magnitudes.top1[best], magnitudes.median[best]
end

-- ---- downstream ----

---@class massact.DownstreamSet
---@field name string
---@field path string
---@field items massact.ChoiceItem[]

---The downstream sets of the options.
---@param opt table
---@return massact.DownstreamSet[]
function M.sets(opt)
  local sets = {}
  for i, path in ipairs(opt.items) do sets[i] = { name = massact.data.stem(path), path = path, items = choices.load(path, opt.limit) } end
  return sets
end

---What a model gets right: the mean over sets, and each set's results without its items.
---@param model massact.Model
---@param sets massact.DownstreamSet[]
---@return number accuracy
---@return massact.ChoiceResult[]
function M.score(model, sets)
  local results, sum = massact.json.array(), 0
  for i, set in ipairs(sets) do
    local seen = choices.evaluate(model, set.items, { bos = true, label = set.name })
    seen.items, seen.name, seen.path = nil, set.name, set.path
    results[i], sum = seen, sum + seen.accuracy / #sets
  end
  return sum, results
end

-- ---- while training ----

-- Steps 1, 2, 4, 8 ..., every `every`, and the last.
local function is_recorded(step, every, steps) return step & (step - 1) == 0 or step % every == 0 or step == steps end

local function duration(seconds)
  seconds = math.floor(seconds + 0.5)
  return seconds < 60 and ("%d s"):format(seconds) or ("%d min %02d s"):format(seconds // 60, seconds % 60)
end

local function say(trainer, begun, first)
  local record, m = trainer.record, trainer.record.magnitudes
  local layer, top, median = M.largest(m)
  local left = (massact.system.clock() - begun) / (trainer.step - first) * (trainer.steps - trainer.step)
  print(("step %d of %d: loss %.3f, %.0f tokens/s, largest %.4g in layer %d (median %.3g)%s%s"):format(trainer.step, trainer.steps, record.loss,
    record.tokens_per_second, top, layer, median, record.score and (", %.1f %% right"):format(100 * record.score) or "",
    trainer.step < trainer.steps and ", about " .. duration(left) .. " left" or ""))
  io.stdout:flush()
end

---Callbacks for massact.train that put `magnitudes` and `score` into the log's records, and tell the user how it goes.
---@param opt table
---@param windows integer[][] held-out ones
---@param sets massact.DownstreamSet[]
---@return table<string, fun(trainer: massact.Trainer)>
function M.callbacks(opt, windows, sets)
  local begun, first
  return {
    before_step = function(trainer)
      if not begun then begun, first = massact.system.clock(), trainer.step end
    end,
    after_step = function(trainer)
      local step, record = trainer.step, trainer.record
      local is_scored = step == opt.steps or (opt.score_every > 0 and step % opt.score_every == 0)
      if not is_scored and not is_recorded(step, opt.record_every, opt.steps) then return end
      record.magnitudes = M.magnitudes(trainer.model, windows)
      if is_scored and #sets > 0 then record.score = M.score(trainer.model, sets) end
      say(trainer, begun, first)
    end,
  }
end

return M
