-- Magnitudes over training, of one training or several seeds of it: fitted with the curve of Gallego-Feliciano et al. 2025
-- (massact.emergence), told and drawn.
local core = require "massact.core"
local emergence = require "massact.emergence"
local plot = require "massact.plot"
local tables = require "massact.tables"

local M = {}

-- ---- all of them together ----

---What is followed; `of` gives it by layer.
M.quantities = {
  top1 = { title = "Largest magnitude", of = function(m) return m.top1 end },
  top2 = { title = "Second largest magnitude", of = function(m) return m.top2 end },
  top3 = { title = "Third largest magnitude", of = function(m) return m.top3 end },
  median = { title = "Median magnitude", of = function(m) return m.median end },
  ratio = { title = "Largest over median", of = function(m)
    local ratios = {}
    for l, value in ipairs(m.top1) do ratios[l] = value / m.median[l] end
    return ratios
  end },
}

local order = { "top1", "top2", "top3", "median", "ratio" }

local function check_alike(runs)
  local n_layers
  for _, run in ipairs(runs) do
    for _, record in ipairs(run.records) do
      local n = #record.magnitudes.top1
      n_layers = n_layers or n
      if n ~= n_layers then
        error(("%s: step %d is of a model with %d layers, another one has %d: these are not of one training"):format(run.name, record.step, n, n_layers), 0)
      end
    end
  end
  return n_layers
end

-- The steps that all runs have.
local function common_steps(runs)
  local n, steps = {}, {}
  for _, run in ipairs(runs) do for _, record in ipairs(run.records) do n[record.step] = (n[record.step] or 0) + 1 end end
  for step, count in pairs(n) do if count == #runs then steps[#steps + 1] = step end end
  table.sort(steps)
  return steps
end

-- values[quantity] = { mean =, low =, high = }, each by layer and by step.
local function values_of(runs, steps, n_layers)
  local place, values = {}, {}
  for i, step in ipairs(steps) do place[step] = i end
  for _, name in ipairs(order) do
    local v = { mean = {}, low = {}, high = {} }
    for l = 1, n_layers do
      for _, list in pairs(v) do list[l] = core.json.array() end
    end
    for _, run in ipairs(runs) do
      for _, record in ipairs(run.records) do
        local i = place[record.step]
        for l, value in ipairs(i and M.quantities[name].of(record.magnitudes) or {}) do
          v.mean[l][i] = (v.mean[l][i] or 0) + value / #runs
          v.low[l][i], v.high[l][i] = math.min(v.low[l][i] or value, value), math.max(v.high[l][i] or value, value)
        end
      end
    end
    values[name] = v
  end
  return values
end

-- The curve of each layer; none where there are too few steps.
local function fits_of(names, values, steps, n_layers)
  local fits = core.json.array()
  if #steps < 6 then return fits end
  for _, name in ipairs(names) do
    for l = 1, n_layers do
      local fit = emergence.fit(steps, values[name].mean[l])
      fits[#fits + 1] = { quantity = name, layer = l - 1, A = fit.A, lambda = fit.lambda, gamma = fit.gamma, t0 = fit.t0, K = fit.K, r2 = fit.r2,
        peak = fit.peak or core.json.null }
    end
  end
  return fits
end

---Joins runs (seeds of one training) and fits the curve to the mean.
---@param runs {name: string, records: massact.TrainingRecord[]}[]
---@param fitted string[] quantities to fit
---@return table results {runs, steps, n_layers, values, fits}
function M.gather(runs, fitted)
  local n_layers, steps, names = check_alike(runs), common_steps(runs), core.json.array()
  for i, run in ipairs(runs) do names[i] = run.name end
  local values = values_of(runs, steps, n_layers)
  return { runs = names, steps = core.json.array(steps), n_layers = n_layers, values = values, fits = fits_of(fitted, values, steps, n_layers) }
end

-- ---- tables ----

---A row a step and layer: mean over runs, and for several the least and most.
---@param r table results
---@return string csv
function M.csv(r)
  local columns, rows = { "step", "layer" }, {}
  for _, name in ipairs(order) do
    columns[#columns + 1] = name
    if #r.runs > 1 then table.move({ name .. "_least", name .. "_most" }, 1, 2, #columns + 1, columns) end
  end
  for i, step in ipairs(r.steps) do
    for l = 1, r.n_layers do
      local row = { step, l - 1 }
      for _, name in ipairs(order) do
        local v = r.values[name]
        row[#row + 1] = v.mean[l][i]
        if #r.runs > 1 then table.move({ v.low[l][i], v.high[l][i] }, 1, 2, #row + 1, row) end
      end
      rows[#rows + 1] = row
    end
  end
  return tables.csv(columns, rows)
end

local function fit_rows(r)
  local rows = {}
  for i, f in ipairs(r.fits) do rows[i] = { f.quantity, f.layer, f.A, f.lambda, f.gamma, f.t0, f.K, f.r2, f.peak } end
  return rows
end

local fit_columns = { "quantity", "layer", "A", "lambda", "gamma", "t0", "K", "R2", "peak" }

---The fitted curves' parameters.
---@param r table results
---@return string csv
function M.fit_csv(r) return tables.csv(fit_columns, fit_rows(r)) end

---@param r table results
---@return string markdown
function M.fit_markdown(r) return tables.markdown(fit_columns, fit_rows(r)) end

---What the user reads.
---@param r table results
---@return string[]
function M.lines(r)
  local lines, best, last = {}, 1, #r.steps
  for l, list in ipairs(r.values.top1.mean) do if list[last] > r.values.top1.mean[best][last] then best = l end end
  lines[1] = ("%d steps from %d to %d%s; at the last the largest magnitude is %.4g in layer %d, %.4g times the median"):format(last, r.steps[1],
    r.steps[last], #r.runs > 1 and (", mean of %d seeds"):format(#r.runs) or "", r.values.top1.mean[best][last], best - 1, r.values.ratio.mean[best][last])
  if #r.fits == 0 then lines[2] = ("%d steps are too few for the curve, which has five parameters"):format(last) end
  for _, name in ipairs(order) do
    local n, sum, least = 0, 0, math.huge
    for _, f in ipairs(r.fits) do
      if f.quantity == name then n, sum, least = n + 1, sum + f.r2, math.min(least, f.r2) end
    end
    if n > 0 then lines[#lines + 1] = ("%s: the curve's R² is %.3f on average over layers, at least %.3f"):format(name, sum / n, least) end
  end
  return lines
end

-- ---- the figure ----

local most_layers = 6

-- Layers from the first to the last, evenly, where there are too many to tell apart.
local function shown_layers(n)
  local shown, layers = math.min(n, most_layers), {}
  for i = 0, shown - 1 do layers[i + 1] = 1 + (n - 1) * i // math.max(1, shown - 1) end
  return layers
end

local function curve_of(f)
  return function(t)
    local x = f.gamma * t + f.t0
    return f.A * math.exp(-f.lambda * x) * math.log(x) + f.K
  end
end

-- As many places as make a curve smooth, evenly on the log scale.
local function smooth(first, last)
  local places = {}
  for i = 0, 100 do places[i + 1] = first * (last / first) ^ (i / 100) end
  return places
end

local colors = { "black", "steelblue", "green", "orange", "red", "purple" }

local function panel(r, name)
  local figure = plot.figure { title = M.quantities[name].title, x_label = "Step", y_label = name == "ratio" and "Ratio" or "Activation Magnitude", x_scale = "log" }
  -- A log scale begins behind step 0.
  local from = r.steps[1] > 0 and 1 or 2
  local steps = table.move(r.steps, from, #r.steps, 1, {})
  for i, l in ipairs(shown_layers(r.n_layers)) do
    local v = r.values[name]
    local function of(list) return table.move(list[l], from, #r.steps, 1, {}) end
    local label, fit = "layer " .. l - 1, nil
    for _, f in ipairs(r.fits) do if f.quantity == name and f.layer == l - 1 then fit = f end end
    local has_band = #r.runs > 1
    figure:line { x = steps, y = of(v.mean), low = has_band and of(v.low) or nil, high = has_band and of(v.high) or nil, color = colors[i], label = label,
      marker = true }
    if fit and #steps > 1 then
      local places, heights, value = smooth(steps[1], steps[#steps]), {}, curve_of(fit)
      for k, t in ipairs(places) do heights[k] = value(t) end
      figure:line { x = places, y = heights, color = colors[i], style = "dashed" }
    end
  end
  return figure
end

---Magnitudes over steps by layer, dashed the curves; of several runs the mean and range.
---@param r table results
---@param title string
---@return massact.Grid
function M.figure(r, title)
  local panels = {}
  for i, name in ipairs { "top1", "median", "ratio" } do panels[i] = panel(r, name) end
  return plot.grid(panels, { columns = 3, title = title, width = 12, height = 4, legend = "shared" })
end

return M
