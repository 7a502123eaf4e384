-- The attention's output as a sum over keys (Sun et al. 2024, arXiv 2402.17762, section 4.3): with probabilities p, values v and the output
-- projection W,  Attention_t = W sum_s p_ts v_s + b = W sum_{s in C} p_ts v_s + W sum_{s not in C} p_ts v_s + b,  C the massive tokens.
-- A learned key and value in front of the sequence (KV bias) is a term of its own.
local core = require "massact.core"
local components = require "massact.components"

local M = {}

M.points = { "attn.v", "attn.probs", "attn.proj" }
M.names = { "massive", "rest", "extra_kv", "bias" }

-- The projection as it multiplies: [D, heads x d], in the precision of the pass.
local function projection(model, layer)
  local weight = model:weight(("layers.%d.attn.proj.weight"):format(layer))
  if model.dtype ~= "f32" then weight = weight:to { dtype = model.dtype } end
  return weight:float():reshape(model.d_model, -1)
end

-- W sum_s p_ts v_s [T, D] of probs [H, T, S] and values [S, G, d], of which H / G heads share one.
local function mixed(probs, values, weight)
  local H, T, S, G, d = probs:size(0), probs:size(1), probs:size(2), values:size(1), values:size(2)
  local z = probs:reshape(G, H // G, T, S):matmul(values:permute(1, 0, 2):reshape(G, 1, S, d)) -- [G, H / G, T, d]
  return z:permute(2, 0, 1, 3):reshape(T, H * d):matmul(weight:t())
end

---The terms of a layer's attention output; they sum to attn.proj.
---@param model massact.Model
---@param layer integer
---@param at table<string, massact.Tensor> of M.points, without batch dim
---@param positions integer[] the massive tokens
---@return table<string, massact.Tensor> massive, rest, extra_kv?, bias? [T, D] each, bias [1, D]
function M.terms(model, layer, at, positions)
  local probs, values, weight, terms = at["attn.probs"], at["attn.v"], projection(model, layer), {}
  if model.spec.kv_bias then
    -- The extra value is a head's own: no heads share it.
    local extra = model:weight(("layers.%d.attn.extra_value"):format(layer)):float():reshape(1, probs:size(0), -1)
    terms.extra_kv = mixed(probs:narrow(2, 0, 1), extra, weight)
    probs = probs:narrow(2, 1, probs:size(2) - 1)
  end
  local massive = values:clone():fill_(0)
  for _, p in ipairs(positions) do massive:narrow(0, p, 1):copy_(values:narrow(0, p, 1)) end
  terms.massive, terms.rest = mixed(probs, massive, weight), mixed(probs, values - massive, weight)
  local slot = ("layers.%d.attn.proj.bias"):format(layer)
  if model.weights[slot] then terms.bias = model.weights[slot]:float():reshape(1, -1) end
  return terms
end

---How long the terms are at the queries, each one's share of the sum of lengths, and how constant it is: the length of its mean over
---queries to the mean of its lengths, 1 where it is the same vector at each.  `error`: largest difference of the sum from the output, relative.
---@param terms table<string, massact.Tensor>
---@param output massact.Tensor attn.proj [T, D]
---@param queries integer[]
---@return table<string, table|number>
function M.measure(terms, output, queries)
  local lengths, sum, total, results = {}, nil, nil, {}
  for _, name in ipairs(M.names) do
    local term = terms[name] and terms[name]:expand(output:shape())
    if term then
      sum = sum and sum + term or term
      lengths[name] = components.rows(term, queries):norm(1)
      total = total and total + lengths[name] or lengths[name]
    end
  end
  for name, length in pairs(lengths) do
    local at_queries, mean = components.rows(terms[name]:expand(output:shape()), queries), length:mean():item()
    results[name] = { norm = mean, share = (length / total):mean():item(), by_query = length:totable(),
      constancy = #queries > 1 and at_queries:mean(0):norm():item() / mean or core.json.null }
  end
  results.error = (sum - output):abs():max():item() / output:abs():max():item()
  return results
end

return M
