-- Pictures that the experiments on components share, drawn from saved results: sizes by layer, tokens by dims as bars, tokens' labels.
local core = require "massact.core"
local plot = require "massact.plot"

local M = {}

local nothing = 0 / 0 -- a gap in a line

---A value inside saved results, by its keys; a gap where there is none.
---@param from table
---@param ... string|integer
---@return number
function M.value(from, ...)
  for _, key in ipairs { ... } do
    if type(from) ~= "table" then return nothing end
    from = from[key]
  end
  return (from == nil or from == core.json.null) and nothing or from
end

-- Panels on a page, each of a size in inches, under the model's name.
local function page(panels, columns, title, width, height, options)
  columns = math.min(columns, #panels)
  options = options or {}
  options.columns, options.title = columns, title
  options.width, options.height = columns * width, math.ceil(#panels / columns) * height + 0.5
  return plot.grid(panels, options)
end

---Labels of the sentence's tokens; massive ones stand out.
---@param focus massact.Focus
---@param positions? integer[] the massive ones; default: those of any layer
---@return table[]
function M.tokens(focus, positions)
  local massive, labels = {}, {}
  for _, p in ipairs(positions or (focus.is_massive and focus.positions) or {}) do massive[p] = true end
  for i, text in ipairs(focus.sentence.tokens) do labels[i] = plot.token(text, { massive = massive[i - 1] }) end
  return labels
end

---What the tokens in focus are called in legends.
---@param focus massact.Focus
---@return string
function M.subject(focus)
  if not focus.is_massive then return "token of the largest activation" end
  return #focus.positions == 1 and "massive token" or "massive tokens"
end

---@class massact.Series
---@field keys any[] where the value is in a layer's results
---@field label string
---@field color? string
---@field style? string
---@field low? any[] keys of a band's lower edge, `high` of its upper
---@field high? any[]

---Lines over layers.
---@param results table with layers, from layer 0, and focus
---@param options table of plot.figure
---@param series massact.Series[] those without any value are left out
---@return massact.Figure
function M.by_layer(results, options, series)
  local layers, massive = results.layers, results.focus.layers
  options.x_label, options.integers, options.legend = "Layer Number", true, "above"
  local fig, x = plot.figure(options), {}
  for l = 1, #layers do x[l] = l - 1 end
  local function column(keys)
    local y, some = {}, false
    for l, layer in ipairs(layers) do
      y[l] = M.value(layer, table.unpack(keys))
      some = some or y[l] == y[l]
    end
    return y, some
  end
  for _, s in ipairs(series) do
    local y, some = column(s.keys)
    if some then
      fig:line { x = x, y = y, label = s.label, color = s.color, style = s.style, marker = s.style == nil,
        low = s.low and column(s.low), high = s.high and column(s.high) }
    end
  end
  if #massive > 0 then fig:vline { x = massive[1], label = "first massive layer", color = "gray", style = "dotted" } end
  return fig
end

-- Labels of dims, { place, label } each: massive ones in bold; without any, as many as can be read.
local function dim_labels(dims, massive)
  local labels, is_massive = {}, {}
  for _, dim in ipairs(massive) do is_massive[dim] = true end
  local step = math.ceil(#dims / 6)
  for i, dim in ipairs(dims) do
    if is_massive[dim] then labels[#labels + 1] = { i - 1, { text = tostring(dim), bold = true } }
    elseif #massive == 0 and (i - 1) % step == 0 then labels[#labels + 1] = { i - 1, tostring(dim) } end
  end
  return labels
end

---Tokens by dims as bars; heights 0, half and the largest are marked.
---@param focus massact.Focus
---@param panel {values: number[][], dims: integer[]}
---@param title string
---@param massive {positions: integer[], dims: integer[]} whose labels stand out
---@return massact.Figure
function M.bars(focus, panel, title, massive)
  return plot.figure({ title = title }):bars3d {
    values = panel.values, x_labels = M.tokens(focus, massive.positions), y_labels = dim_labels(panel.dims, massive.dims) }
end

---Magnitudes by token and dim, a panel a layer, four in a row.
---@param results table of experiments/tokenwise.lua
---@return massact.Figure
function M.tokenwise(results)
  local panels, massive = {}, {}
  for _, m in ipairs(results.focus.massive) do massive[m.layer] = m end
  for l, values in ipairs(results.layers) do
    panels[l] = M.bars(results.focus, { values = values, dims = results.dims }, ("Layer %d"):format(l - 1),
      massive[l - 1] or { positions = {}, dims = {} })
  end
  return page(panels, 4, results.model, 3.4, 2.9)
end

-- A layer's triangle as rows of a heat map; what cannot be seen is a gap.
local function heat(layer, n)
  local rows, first = {}, layer.extra_kv and 1 or 0
  for q, row in ipairs(layer.rows) do
    rows[q] = {}
    if layer.extra_kv then rows[q][1] = M.value(layer.extra_kv, q) end
    for k = 1, n do rows[q][first + k] = M.value(row, k) end
  end
  return rows
end

---Heat maps of attention, a layer each, four in a row.
---@param results table of experiments/self_attention.lua
---@return massact.Figure
function M.attention(results)
  local n, columns, panels = #results.focus.sentence.tokens, math.min(4, #results.layers), {}
  local keys = M.tokens(results.focus)
  if results.layers[1].extra_kv then table.insert(keys, 1, "extra_kv") end
  local side = math.min(6, math.max(3.4, 0.2 * n)) -- inches: long sentences stay on a page that fits in memory
  for l, layer in ipairs(results.layers) do
    panels[l] = plot.figure({ title = ("Layer %d"):format(l - 1),
      y_label = (l - 1) % columns == 0 and "Query" or nil, x_label = l > #results.layers - columns and "Key" or nil,
    }):heatmap { values = heat(layer, n), x_labels = keys, y_labels = M.tokens { sentence = results.focus.sentence }, map = "YlGnBu", colorbar = true }
  end
  return page(panels, columns, results.model, side, side)
end

---Attention that massive tokens receive, by layer, and what other keys do.
---@param results table of experiments/attention_trajectory.lua
---@return massact.Figure
function M.trajectory(results)
  local focus, series = results.focus, {}
  local function add(label, color, style, keys, low, high)
    series[#series + 1] = { label = label, color = color, style = style, keys = keys, low = low, high = high }
  end
  add(M.subject(focus) .. " (band: middle half of the heads)", "red", nil, { "massive", "mean" }, { "massive", "low" }, { "massive", "high" })
  add("learned key (extra_kv)", "purple", nil, { "extra_kv" })
  add("all other tokens together", "steelblue", nil, { "others" })
  return M.by_layer(results, { title = results.model, y_label = "Share of Attention", y_range = { 0, 1 } }, series)
end

---Lengths of the terms of the attention's output by layer, and how much of it the massive tokens' term is and how constant.
---@param results table of experiments/attention_decomposition.lua
---@return massact.Figure
function M.decomposition(results)
  local subject = M.subject(results.focus)
  local lengths = M.by_layer(results, { title = "Mean length of the terms", y_label = "Length", y_scale = "log" }, {
    { label = "from the " .. subject, color = "red", keys = { "massive", "norm" } },
    { label = "from all other tokens", color = "steelblue", keys = { "rest", "norm" } },
    { label = "from the learned key (extra_kv)", color = "purple", keys = { "extra_kv", "norm" } },
    { label = "projection's bias", color = "gray", style = "dotted", keys = { "bias", "norm" } } })
  local shares = M.by_layer(results, { title = "The term from the " .. subject, y_label = "Ratio", y_range = { 0, 1.02 } }, {
    { label = "share of the terms' lengths", color = "red", keys = { "massive", "share" } },
    { label = "constancy over queries", color = "black", style = "dashed", keys = { "massive", "constancy" } },
    { label = "constancy of the rest", color = "steelblue", style = "dashed", keys = { "rest", "constancy" } } })
  return page({ lengths, shares }, 2, results.model, 6, 4)
end

---Tokens by dims in one layer, a panel a stage.
---@param results table with focus, close_up {layer, panels}
---@param columns integer
---@return massact.Figure
function M.close_up(results, columns)
  local focus, panels = results.focus, {}
  local massive = { positions = focus.is_massive and focus.positions or {}, dims = focus.is_massive and focus.dims or {} }
  for i, panel in ipairs(results.close_up.panels) do
    panels[i] = M.bars(focus, panel, panel.title, panel.own_dims and { positions = massive.positions, dims = {} } or massive)
  end
  return page(panels, columns, ("%s, layer %d"):format(results.model, results.close_up.layer), 3.8, 3.2)
end

-- Largest and median |x| at massive and at ordinary tokens.
local function size_series(focus, ...)
  local series = {}
  for _, s in ipairs {
    { "massive", "max", M.subject(focus) .. ", largest", "red" }, { "massive", "median", M.subject(focus) .. ", median", "red", "dashed" },
    { "ordinary", "max", "other tokens, largest", "steelblue" }, { "ordinary", "median", "other tokens, median", "steelblue", "dashed" },
  } do
    local keys = table.pack(...)
    keys[#keys + 1], keys[#keys + 2] = s[1], s[2]
    series[#series + 1] = { keys = keys, label = s[3], color = s[4], style = s[5] }
  end
  return series
end

---Magnitudes before and after each norm, by layer: a row a norm.
---@param results table of experiments/layernorm.lua
---@return massact.Figure
function M.norms(results)
  local panels = {}
  for i, norm in ipairs(results.norms) do
    for _, side in ipairs { "before", "after" } do
      panels[#panels + 1] = M.by_layer(results, { title = ("%s the %s"):format(side == "before" and "Into" or "Out of", norm.name),
        y_scale = "log", y_label = "Activation Magnitude" }, size_series(results.focus, "norms", i, side))
    end
  end
  return page(panels, 2, results.model, 6, 3.6, { legend = "shared" })
end

---What the layers add to the largest entry, and the MLP's inside by layer.
---@param results table of experiments/mlp.lua
---@return massact.Figure
function M.mlp(results)
  local focus, which = results.focus, nil
  for i, w in ipairs(results.layers[1].writes) do
    if w.position == focus.largest.position and w.dim == focus.largest.dim then which = i end
  end
  local panels = { M.by_layer(results, { title = ("Dim %d at position %d"):format(focus.largest.dim, focus.largest.position), y_label = "Activation" }, {
    { label = "the layer's output", color = "black", keys = { "writes", which, "out" } },
    { label = "added by attention", color = "steelblue", keys = { "writes", which, "attention" } },
    { label = "added by the MLP", color = "red", keys = { "writes", which, "mlp" } } }) }
  for _, stage in ipairs { { "mlp.norm", "Into the MLP" }, { "mlp.act", "Into its down projection" }, { "mlp.out", "Out of the MLP" } } do
    if results.layers[1].sizes[stage[1]] then -- experts have no single input of the down projection
      panels[#panels + 1] = M.by_layer(results, { title = stage[2], y_scale = "log", y_label = "Activation Magnitude" },
        size_series(focus, "sizes", stage[1]))
    end
  end
  return page(panels, 2, results.model, 6, 3.6)
end

---Lengths of queries, keys and values, and the scores that they give, by layer.
---@param results table of experiments/qkv.lua
---@return massact.Figure
function M.qkv(results)
  local subject, panels = M.subject(results.focus), {}
  for _, stage in ipairs { { "attn.q", "Queries" }, { "attn.k", "Keys" }, { "attn.v", "Values" } } do
    panels[#panels + 1] = M.by_layer(results, { title = stage[2] .. ", mean length", y_label = "Length" }, {
      { label = subject, color = "red", keys = { "sizes", stage[1], "massive", "norm" } },
      { label = "other tokens", color = "steelblue", keys = { "sizes", stage[1], "ordinary", "norm" } } })
  end
  panels[4] = M.by_layer(results, { title = "Mean score of a key", y_label = "Softmax Input" }, {
    { label = subject, color = "red", keys = { "scores", "massive" } },
    { label = "other tokens", color = "steelblue", keys = { "scores", "ordinary" } },
    { label = "learned key (extra_kv)", color = "purple", keys = { "scores", "extra_kv" } } })
  return page(panels, 2, results.model, 6, 3.6, { legend = "shared" })
end

return M
