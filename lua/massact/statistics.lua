-- Numbers that papers judge activations by: the three things that are called kurtosis, outlier dims, attention sinks, values
-- of sinks, and what f16 cannot hold.  Functions of tensors, which they leave alone; sums over windows are the caller's.
local M = {}

-- ---- kurtosis ----

---Token kurtosis (Bondarenko et al. 2023, arXiv 2306.12929, and Kaul et al. 2024, arXiv 2410.17174): of each row over its dims,
---mean (x - mean)^4 / (std^4 + 1e-6), std with n - 1 as in the released code; 3 for normal numbers.  The released code gives it a whole
---sequence as one row: `x:reshape(B, -1)`.
---@param x massact.Tensor [..., d]
---@return massact.Tensor [...]
function M.token_kurtosis(x)
  local squares = (x - x:mean(-1, { keep = true })):square()
  return squares:square():mean(-1) / (x:var(-1):square() + 1e-6)
end

---Neuron-RMS kurtosis (He et al. 2024, arXiv 2405.19279, section 2): with s_j the root mean square of neuron j over tokens,
---mean s^4 / (mean s^2)^2 over the neurons: from 1, all alike, to d, one alone.  The released code reports it less 1.
---@param mean_squares massact.Tensor [d] mean over tokens of x^2
---@return number
function M.neuron_rms_kurtosis(mean_squares)
  return mean_squares:square():mean():item() / mean_squares:mean():item() ^ 2
end

---Excess kurtosis of a tensor's mean activation, as llama-imatrix --show-statistics has it: over channels, of the mean over
---tokens, mean (v - mean)^4 / std^4 - 3, std with n; 0 for normal numbers.
---@param means massact.Tensor [d] mean over tokens of x
---@return number
function M.mean_activation_kurtosis(means)
  local squares = (means - means:mean()):square()
  return squares:square():mean():item() / squares:mean():item() ^ 2 - 3
end

-- ---- outlier dims ----

-- Dettmers et al. 2022 (arXiv 2208.07339), section 4.1.
M.int8_rule = { above = 6, layers = 0.25, positions = 0.06 }

---How many positions of each dim are at or above a magnitude.
---@param x massact.Tensor [..., d]
---@param above? number 6
---@return massact.Tensor [d]
function M.count_large(x, above)
  return x:reshape(-1, x:size(-1)):abs():ge(above or M.int8_rule.above):float():sum(0)
end

---@class massact.OutlierDim
---@field dim integer
---@field layers number share of the layers that have it somewhere
---@field positions number share of all layers' positions that have it

---Outlier features of LLM.int8: dims that reach 6 in at least 25 % of the layers and at 6 % of the positions of all layers'
---hidden states.  The paper looks at what enters the attention and MLP projections.
---@param counts massact.Tensor[] by layer (from 1): count_large of it
---@param n_positions integer positions counted in a layer
---@param rule? {layers: number, positions: number}
---@return massact.OutlierDim[] ascending
function M.int8_outliers(counts, n_positions, rule)
  rule = rule or M.int8_rule
  local layers, positions = counts[1]:gt(0):float(), counts[1]:clone()
  for l = 2, #counts do
    layers = layers + counts[l]:gt(0):float()
    positions = positions + counts[l]
  end
  layers, positions = layers:totable(), positions:totable() -- whole numbers: shares of them are exact in Lua's
  local found = {}
  for d = 1, #layers do
    local dim = { dim = d - 1, layers = layers[d] / #counts, positions = positions[d] / (#counts * n_positions) }
    if dim.layers >= rule.layers and dim.positions >= rule.positions then found[#found + 1] = dim end
  end
  return found
end

---Outlier dims of Macocco et al. 2025 (arXiv 2503.21718): those whose median magnitude is in the top 1 % of all magnitudes.  The
---paper looks at the last layer's output for one position of each of many contexts.
---@param x massact.Tensor [n, d]
---@param top? number 0.01
---@return {dim: integer, median: number}[] largest median first
---@return number threshold
function M.median_outliers(x, top)
  local magnitudes = x:abs()
  local threshold = magnitudes:quantile(1 - (top or 0.01)):item()
  local found = {}
  for d, median in ipairs(magnitudes:median(0):totable()) do
    if median > threshold then found[#found + 1] = { dim = d - 1, median = median } end
  end
  table.sort(found, function(a, b) return a.median > b.median or (a.median == b.median and a.dim < b.dim) end)
  return found, threshold
end

-- ---- attention sinks ----

M.sink = { epsilon = 0.3, context_length = 64 } -- Gu et al. 2024, section 3.2

---Mean attention to each key, over the queries at it and behind it: alpha_k of Gu et al. 2024 (arXiv 2410.10781), section 3.2.
---@param received massact.Tensor [..., T] `attn.received` of a pass without a cache; with a KV bias, without its column 0
---@return massact.Tensor [..., T]
function M.mean_attention(received)
  local massact, t = require "massact", received:size(-1)
  return received / (t - massact.arange(t):to { dtype = "f32", device = received:device() })
end

---Sink rate of Gu et al. 2024, eq. 4: the share of heads (of any layers and sequences) that give key k more than epsilon on average.
---@param attention massact.Tensor [..., T] of mean_attention
---@param k? integer key, from 0 (0)
---@param epsilon? number 0.3
---@return number
function M.sink_rate(attention, k, epsilon)
  return attention:select(-1, k or 0):gt(epsilon or M.sink.epsilon):float():mean():item()
end

---Norm of the sink's value over the mean norm of the others': below 0.2 the sink makes a head do nothing, near 1 it is broadcast
---(Fesser et al. 2026).
---@param norms massact.Tensor [..., T, G] Euclidean norms of values: `v:norm(-1)` of attn.v
---@param sink integer position, from 0
---@return massact.Tensor [..., G]
function M.value_norm_ratio(norms, sink)
  local t, own = norms:size(-2), norms:select(-2, sink)
  return own * (t - 1) / (norms:sum(-2) - own)
end

-- ---- f16 ----

M.f16 = { largest = 65504, overflows = 65520 } -- from here on rounding to nearest gives infinity

---How many finite elements f16 would turn into infinity.
---@param x massact.Tensor
---@return integer
function M.overflows_f16(x)
  local magnitudes = x:abs()
  local large = magnitudes:ge(M.f16.overflows):float() * magnitudes:isfinite():float()
  return math.tointeger(large:sum():item())
end

return M
