-- Learning rates over a run: warm-up from 0, then constant, linear, cosine (Loshchilov & Hutter 2017, arXiv 1608.03983) or
-- warm-up, stable, decay (WSD; Hu et al. 2024, arXiv 2404.06395).
local M = {}

---@class massact.Schedule
---@field kind? "constant"|"linear"|"cosine"|"wsd" ("cosine")
---@field warmup? integer steps (0)
---@field final? number share of the rate at the end (0.1; constant: 1)
---@field decay? integer wsd: steps of its last part (a fifth of all)

-- Share of the way from warm-up's end (0) to the last step (1).
local function progress(how, step, steps)
  local rest = math.max(1, steps - how.warmup)
  return math.min(1, math.max(0, (step - how.warmup) / rest))
end

local after_warmup = {}

function after_warmup.constant() return 1 end

function after_warmup.linear(how, step, steps) return 1 + (how.final - 1) * progress(how, step, steps) end

function after_warmup.cosine(how, step, steps)
  return how.final + (1 - how.final) * 0.5 * (1 + math.cos(math.pi * progress(how, step, steps)))
end

function after_warmup.wsd(how, step, steps)
  local decay = how.decay or math.max(1, steps // 5)
  local into = math.min(1, math.max(0, (step - (steps - decay)) / decay))
  return 1 + (how.final - 1) * into
end

---A function from a step (from 1) to a factor on the learning rate.
---@param schedule? massact.Schedule
---@param steps integer of the whole run
---@return fun(step: integer): number
function M.schedule(schedule, steps)
  local given = schedule or {}
  local how = { kind = given.kind or "cosine", warmup = given.warmup or 0, final = given.final or 0.1, decay = given.decay }
  local rule = after_warmup[how.kind] or error(("schedule: there are constant, cosine, linear and wsd, not '%s'"):format(tostring(how.kind)), 2)
  return function(step)
    if step <= how.warmup then return step / how.warmup end
    return rule(how, step, steps)
  end
end

return M
