-- Text from a model: a token at a time, with a cache of keys and values.
local massact = require "massact"

local M = {}

---@class massact.Generate
---@field max_tokens? integer how many at most (default 64)
---@field temperature? number 0 (default): always the likeliest; else logits are divided by it and drawn from
---@field top_k? integer draw among the likeliest k only
---@field seed? integer of what is drawn (default 42)
---@field stop? integer[] ids that end the text (default: the tokenizer's EOS); the one that does is not returned

-- The next id, given the logits [V] of the last position.
local function pick(logits, options, step)
  local temperature = options.temperature or 0
  if temperature <= 0 then return logits:argmax():item() end
  local values, ids = logits:topk(math.min(options.top_k or logits:size(0), logits:size(0)))
  local left = massact.rand(1, { seed = (options.seed or 42) * 1000003 + step }):item()
  for i, share in ipairs((values / temperature):softmax():totable()) do
    left = left - share
    if left < 0 then return ids:get(i - 1) end
  end
  return ids:get(0) -- rounding left a little over
end

local function stops(model, options)
  local set = {}
  for _, id in ipairs(options.stop or {}) do set[id] = true end
  if not options.stop then
    local has, tokenizer = pcall(function() return model.tokenizer end)
    if has and tokenizer.eos then set[tokenizer.eos] = true end
  end
  return set
end

---Continues a sequence.  Hooks and patches on the model's points see every pass: first all of `ids`, then one token each.
---@param model massact.Model
---@param ids integer[] at least one
---@param options? massact.Generate
---@return integer[] continuation without `ids`
function M.generate(model, ids, options)
  options = options or {}
  local most = math.min(options.max_tokens or 64, model.max_positions - #ids)
  if most < 1 then error(("%d tokens leave no room: the model was made for %d"):format(#ids, model.max_positions), 2) end
  local cache <close> = model:cache(#ids + most)
  local stop, made, next_ids = stops(model, options), {}, ids
  for step = 1, most do
    local logits = model:forward(next_ids, { logits = true, cache = cache }).logits
    local id = pick(logits[0][logits:size(1) - 1], options, step)
    if stop[id] then break end
    made[step], next_ids = id, { id }
  end
  return made
end

return M
