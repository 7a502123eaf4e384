-- How massive activations grow over training: the curve of Gallego-Feliciano et al. 2025 (arXiv 2508.03616),
--   f(t) = A exp(-lambda x) log(x) + K,  x = gamma t + t0,
-- fitted by least squares.  A and K are linear, given the other three, which a simplex search finds (Nelder & Mead 1965).
local M = {}

---@class massact.Emergence
---@field A number
---@field lambda number
---@field gamma number
---@field t0 number
---@field K number
---@field r2 number share of the variance that the curve explains
---@field peak? number the step at which it is largest, where that is inside the data
---@field value fun(t: number): number

-- exp(-lambda x) log(x); t0 > 0 keeps x positive.
local function shape(t, lambda, gamma, t0)
  local x = gamma * t + t0
  return math.exp(-lambda * x) * math.log(x)
end

-- The best A and K for the other three, and the squared error.
local function linear(ts, ys, lambda, gamma, t0)
  local n, sg, sy, sgg, sgy, syy = #ts, 0, 0, 0, 0, 0
  for i, t in ipairs(ts) do
    local g, y = shape(t, lambda, gamma, t0), ys[i]
    sg, sy, sgg, sgy, syy = sg + g, sy + y, sgg + g * g, sgy + g * y, syy + y * y
  end
  local det = n * sgg - sg * sg
  if det <= 1e-12 * n * sgg then return 0, sy / n, syy - sy * sy / n end
  local A = (n * sgy - sg * sy) / det
  local K = (sy - A * sg) / n
  local squares = 0
  for i, t in ipairs(ts) do squares = squares + (A * shape(t, lambda, gamma, t0) + K - ys[i]) ^ 2 end
  return A, K, squares
end

-- Nelder & Mead's search for a minimum of `f` from a point in three dims.
local function simplex(f, start, steps)
  local points = { { table.unpack(start) } }
  for i = 1, #start do
    points[i + 1] = { table.unpack(start) }
    points[i + 1][i] = points[i + 1][i] + 1
  end
  for _, p in ipairs(points) do p.f = f(p) end
  local function mixed(center, worst, by)
    local p = {}
    for i = 1, #start do p[i] = center[i] + by * (worst[i] - center[i]) end
    p.f = f(p)
    return p
  end
  for _ = 1, steps do
    table.sort(points, function(a, b) return a.f < b.f end)
    local best, worst = points[1], points[#points]
    if worst.f - best.f <= 1e-12 * (math.abs(best.f) + 1e-30) then break end
    local center = {}
    for i = 1, #start do
      center[i] = 0
      for k = 1, #points - 1 do center[i] = center[i] + points[k][i] / (#points - 1) end
    end
    local next_point = mixed(center, worst, -1)
    if next_point.f < best.f then
      local further = mixed(center, worst, -2)
      if further.f < next_point.f then next_point = further end
    elseif next_point.f >= points[#points - 1].f then
      next_point = mixed(center, worst, 0.5)
    end
    if next_point.f < worst.f then
      points[#points] = next_point
    else
      for k = 2, #points do points[k] = mixed(best, points[k], 0.5) end
    end
  end
  table.sort(points, function(a, b) return a.f < b.f end)
  return points[1]
end

-- log of lambda at most: near x = 1 a larger one gives t exp(-c t) all the same, with an A beyond all bounds.
local most_lambda = math.log(20)

---Fits the curve to magnitudes over training.  Needs six points or more.
---@param steps number[] or tokens
---@param magnitudes number[]
---@return massact.Emergence
function M.fit(steps, magnitudes)
  if #steps ~= #magnitudes then error("emergence: as many magnitudes as steps are wanted", 2) end
  if #steps < 6 then error(("emergence: five parameters want six points or more, not %d"):format(#steps), 2) end
  -- In units of the last step, so that one set of starting points serves every length.
  local last, ts = 0, {}
  for _, t in ipairs(steps) do last = math.max(last, t) end
  for i, t in ipairs(steps) do ts[i] = t / last end
  local function error_at(p)
    if p[1] > most_lambda then return math.huge end
    return select(3, linear(ts, magnitudes, math.exp(p[1]), math.exp(p[2]), math.exp(p[3])))
  end
  local best
  for _, lambda in ipairs { -6, -3, -1 } do
    for _, gamma in ipairs { 0, 2, 4 } do
      local found = simplex(error_at, { lambda, gamma, 0 }, 400)
      if not best or found.f < best.f then best = found end
    end
  end
  local lambda, gamma, t0 = math.exp(best[1]), math.exp(best[2]), math.exp(best[3])
  local A, K, squares = linear(ts, magnitudes, lambda, gamma, t0)
  local mean, all = 0, 0
  for _, y in ipairs(magnitudes) do mean = mean + y / #magnitudes end
  for _, y in ipairs(magnitudes) do all = all + (y - mean) ^ 2 end
  local fit = { A = A, lambda = lambda, gamma = gamma / last, t0 = t0, K = K, r2 = all > 0 and 1 - squares / all or 1 }
  function fit.value(t) return A * shape(t, lambda, fit.gamma, t0) + K end
  fit.peak = M.peak(fit, last)
  return fit
end

---The step of the curve's largest value, nil where that is at an end: x log(x) = 1 / lambda there.
---@param fit massact.Emergence
---@param last number
---@return number?
function M.peak(fit, last)
  if fit.A <= 0 then return nil end
  local low, high = 1, 2
  while high * math.log(high) < 1 / fit.lambda do high = high * 2 end
  for _ = 1, 200 do
    local middle = (low + high) / 2
    if middle * math.log(middle) < 1 / fit.lambda then low = middle else high = middle end
  end
  local t = (low - fit.t0) / fit.gamma
  return t > 0 and t < last and t or nil
end

return M
