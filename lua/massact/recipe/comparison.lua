-- Trainings of several variants with several seeds side by side: the paper's table (Owen et al. 2025, table 2) with mean and spread, magnitudes
-- by layer, and scores over tokens.
local core = require "massact.core"
local plot = require "massact.plot"
local report = require "massact.recipe.report"
local tables = require "massact.tables"

local M = {}

local null = core.json.null

-- ---- gathering ----

-- What a comparison keeps of a training.
local function run_of(r)
  local records, sets = core.json.array(), core.json.array()
  for _, record in ipairs(r.records) do
    if record.score or record.evaluation_loss then
      records[#records + 1] = { tokens = record.tokens, score = record.score, evaluation_loss = record.evaluation_loss }
    end
  end
  for i, set in ipairs(r.sets or {}) do sets[i] = { name = set.name, n = set.n, accuracy = set.accuracy, chance = set.chance } end
  return { seed = r.seed, existence = r.existence, perplexity = r.perplexity, quantised = r.quantisation.perplexity.both, sink_rate = r.sinks.sink_rate,
    bias = r.sinks.by_layer.bias, accuracy = r.accuracy, sets = sets, records = records, n_parameters = r.n_parameters, tokens = r.tokens,
    tokens_per_second = r.timings.tokens_per_second, mitigations = r.config.massact and r.config.massact.mitigations }
end

---@class massact.Comparison
---@field variants {name: string, runs: table[]}[] in the order that was asked for; runs by seed

---Finished trainings by variant.
---@param names string[] of the variants, in their order
---@param all table[] results of trainings
---@return massact.Comparison
function M.gather(names, all)
  local variants, by_name = core.json.array(), {}
  for i, name in ipairs(names) do
    variants[i] = { name = name, runs = core.json.array() }
    by_name[name] = variants[i]
  end
  for _, r in ipairs(all) do table.insert(by_name[r.variant].runs, run_of(r)) end
  for _, each in ipairs(variants) do table.sort(each.runs, function(a, b) return a.seed < b.seed end) end
  return { variants = variants }
end

-- ---- mean and spread ----

---@param values number[] one a seed
---@return number? mean nil where one is missing or there is none
---@return number? std with n - 1; nil of one value
function M.mean_and_std(values)
  local n, sum, squares = #values, 0, 0
  for _, v in ipairs(values) do
    if type(v) ~= "number" then return nil end
    sum = sum + v
  end
  if n == 0 then return nil end
  for _, v in ipairs(values) do squares = squares + (v - sum / n) ^ 2 end
  return sum / n, n > 1 and math.sqrt(squares / (n - 1)) or nil
end

local function values_of(runs, get)
  local values = {}
  for i, run in ipairs(runs) do
    values[i] = get(run)
    if values[i] == nil then values[i] = null end
  end
  return values
end

-- ---- the table ----

-- What is compared: name in the CSV, head in Markdown, digits there.
local measures = {
  { "max_magnitude", "max magnitude", "%.4g", "%.2g", function(r) return r.existence.largest.max end },
  { "median", "median", "%.3g", "%.2g", function(r) return r.existence.largest.median end },
  { "ratio", "ratio", "%.4g", "%.2g", function(r) return r.existence.largest.ratio end },
  { "perplexity", "perplexity", "%.4g", "%.2g", function(r) return r.perplexity end },
  { "perplexity_w8a8", "perplexity, W8A8", "%.4g", "%.2g", function(r) return r.quantised end },
  { "sink_rate", "sink rate", "%.3f", "%.2g", function(r) return r.sink_rate end },
  { "accuracy", "mean downstream accuracy, %", "%.1f", "%.1f", function(r) return r.accuracy and 100 * r.accuracy end },
}

local function n_massive(variant)
  local n = 0
  for _, run in ipairs(variant.runs) do n = n + (run.existence.is_massive and 1 or 0) end
  return n
end

local function baseline_of(comparison)
  for _, variant in ipairs(comparison.variants) do if variant.name == "baseline" then return variant end end
end

-- Whether there is something to mitigate: massive activations in some baseline, or no baseline to know by.
local function is_needed(comparison)
  local baseline = baseline_of(comparison)
  return not baseline or #baseline.runs == 0 or n_massive(baseline) > 0
end

---"no" where every seed's model has massive activations, "yes" where none has, else "partly"; "-" where the baseline has none.
---@param comparison massact.Comparison
---@param variant table
---@return string
function M.mitigates(comparison, variant)
  local n, all = n_massive(variant), #variant.runs
  if all == 0 then return "" end
  if n == all then return "no" end
  if n > 0 then return ("partly (%d of %d have some)"):format(n, all) end
  return is_needed(comparison) and "yes" or "-"
end

local function cell(values, format, spread)
  local mean, std = M.mean_and_std(values)
  if not mean then return "" end
  return format:format(mean) .. (std and " ± " .. spread:format(std) or "")
end

-- What the table leaves open, under it.
local function notes(comparison)
  local lines, baseline = {}, baseline_of(comparison)
  local some, least, most
  for _, variant in ipairs(comparison.variants) do
    some = some or variant.runs[1]
    least, most = math.min(least or math.huge, #variant.runs), math.max(most or 0, #variant.runs)
  end
  if not some then return "No training is done yet.\n" end
  lines[1] = ("Mean over %s%s, on held-out windows; the largest mean magnitude of a layer, that layer's median, and their ratio."):format(
    least == most and ("%d seed%s"):format(most, most == 1 and "" or "s") or ("%d to %d seeds"):format(least, most),
    most > 1 and " ± standard deviation" or "")
  lines[2] = ("%d parameters, %d tokens of training."):format(some.n_parameters, some.tokens)
  if #some.sets > 0 then
    local chance = 0
    for _, set in ipairs(some.sets) do chance = chance + set.chance / #some.sets end
    lines[3] = ("Guessing gets %.1f %% of the downstream items right."):format(100 * chance)
  end
  if baseline and #baseline.runs > 0 and not is_needed(comparison) then
    lines[#lines + 1] = "No baseline has massive activations (above 100, and 1000 times the median), so that there is nothing to mitigate."
  end
  return table.concat(lines, " ") .. "\n"
end

---The table for people.
---@param comparison massact.Comparison
---@return string markdown
function M.markdown(comparison)
  local columns, rows = { "variant", "mitigates?" }, {}
  for _, m in ipairs(measures) do columns[#columns + 1] = m[2] end
  for i, variant in ipairs(comparison.variants) do
    rows[i] = { variant.name, M.mitigates(comparison, variant) }
    for _, m in ipairs(measures) do table.insert(rows[i], cell(values_of(variant.runs, m[5]), m[3], m[4])) end
  end
  return tables.markdown(columns, rows) .. "\n" .. notes(comparison)
end

-- What only the CSV has besides: how much attention a KV bias gets, and accuracy by set.
local function all_measures(comparison)
  local list = table.move(measures, 1, #measures, 1, {})
  list[#list + 1] = { "attention_to_kv_bias", nil, nil, nil, function(r) return r.bias and report.mean(r.bias) end }
  local first
  for _, variant in ipairs(comparison.variants) do first = first or variant.runs[1] end
  for i, set in ipairs(first and first.sets or {}) do
    list[#list + 1] = { "accuracy_" .. set.name, nil, nil, nil, function(r) return 100 * r.sets[i].accuracy end }
  end
  return list
end

---The table for programs: mean and standard deviation of everything.
---@param comparison massact.Comparison
---@return string csv
function M.csv(comparison)
  local columns, rows, list = { "variant", "mitigates", "seeds", "massive_seeds" }, {}, all_measures(comparison)
  for _, m in ipairs(list) do table.move({ m[1], m[1] .. "_std" }, 1, 2, #columns + 1, columns) end
  for i, variant in ipairs(comparison.variants) do
    rows[i] = { variant.name, M.mitigates(comparison, variant), #variant.runs, n_massive(variant) }
    for k, m in ipairs(list) do rows[i][3 + 2 * k], rows[i][4 + 2 * k] = M.mean_and_std(values_of(variant.runs, m[5])) end
  end
  return tables.csv(columns, rows)
end

---A row a training.
---@param comparison massact.Comparison
---@return string csv
function M.runs_csv(comparison)
  local columns, rows, list = { "variant", "seed", "is_massive" }, {}, all_measures(comparison)
  for _, m in ipairs(list) do columns[#columns + 1] = m[1] end
  columns[#columns + 1] = "tokens_per_second"
  for _, variant in ipairs(comparison.variants) do
    for _, run in ipairs(variant.runs) do
      local row = { variant.name, run.seed, tostring(run.existence.is_massive) }
      for k, m in ipairs(list) do row[3 + k] = m[5](run) end
      row[#columns] = run.tokens_per_second
      rows[#rows + 1] = row
    end
  end
  return tables.csv(columns, rows)
end

-- ---- the figures ----

-- Mean, least and most over the runs of lists of numbers, place by place; {} without runs.
local function band(lists)
  local mean, low, high = {}, {}, {}
  for i = 1, lists[1] and #lists[1] or 0 do
    low[i], high[i], mean[i] = math.huge, -math.huge, 0
    for _, list in ipairs(lists) do
      low[i], high[i], mean[i] = math.min(low[i], list[i]), math.max(high[i], list[i]), mean[i] + list[i] / #lists
    end
  end
  return mean, low, high
end

local colors = { "black", "steelblue", "orange", "green", "purple", "red", "teal", "brown", "navy", "pink", "olive", "gold" }

-- A line for each variant: its mean, and the range of its runs as a band.
local function add_lines(figure, comparison, x_of, list_of, has_marker)
  for i, variant in ipairs(comparison.variants) do
    local lists = {}
    for k, run in ipairs(variant.runs) do lists[k] = list_of(run) end
    local mean, low, high = band(lists)
    if #mean > 0 then
      local has_band = #lists > 1
      figure:line { x = x_of(variant.runs[1], #mean), y = mean, low = has_band and low or nil, high = has_band and high or nil, label = variant.name,
        color = colors[(i - 1) % #colors + 1], marker = has_marker }
    end
  end
  return figure
end

local function counted(_, n)
  local layers = {}
  for l = 1, n do layers[l] = l - 1 end
  return layers
end

local function spread_of(comparison)
  local most = 0
  for _, variant in ipairs(comparison.variants) do most = math.max(most, #variant.runs) end
  return most > 1 and (": mean and range of %d seeds"):format(most) or ""
end

local panel = { width = 4.2, height = 3.4 }

local function pair(left, right, title)
  return plot.grid({ left, right }, { columns = 2, title = title, width = 2 * panel.width, height = panel.height + 0.7, legend = "shared" })
end

---Largest and median magnitude by layer, a line a variant.
---@param comparison massact.Comparison
---@return massact.Grid
function M.layers_figure(comparison)
  local function figure(title, key)
    return add_lines(plot.figure { title = title, x_label = "Layer Number", y_label = "Activation Magnitude", y_scale = "log", integers = true },
      comparison, counted, function(run) return run.existence[key] end, true)
  end
  return pair(figure("Largest", "mean_max"), figure("Median", "mean_median"), "Magnitude by layer" .. spread_of(comparison))
end

-- What the records of a run have of a key, and at how many tokens.
local function of_records(run, key, scale)
  local tokens, values = {}, {}
  for _, record in ipairs(run.records) do
    if record[key] then tokens[#tokens + 1], values[#values + 1] = record.tokens, scale * record[key] end
  end
  return values, tokens
end

---Downstream accuracy and held-out loss over tokens of training, a line a variant.
---@param comparison massact.Comparison
---@return massact.Grid
function M.scores_figure(comparison)
  local function figure(title, y_label, key, scale)
    return add_lines(plot.figure { title = title, x_label = "Tokens of training", y_label = y_label }, comparison,
      function(run) return (select(2, of_records(run, key, scale))) end, function(run) return (of_records(run, key, scale)) end, key == "score")
  end
  return pair(figure("Downstream items", "Right answers (%)", "score", 100), figure("Held-out text", "Loss (nats a token)", "evaluation_loss", 1),
    "Over training" .. spread_of(comparison))
end

return M
