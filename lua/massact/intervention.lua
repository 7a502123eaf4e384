-- The parts of the paper's intervention_analysis (Owen et al. 2025, section 4): what experiments/intervention.lua composes.
local core = require "massact.core"
local detect = require "massact.detect"
local keyed = require "massact.keyed"
local paper = require "massact.paper"
local perplexity = require "massact.perplexity"
local tokens_analysis = require "massact.tokens_analysis"

local M = {}

-- ---- the windows ----

---Calibration windows: the first ones serve to find, all of them for the means.
---@param run massact.Run
---@return {tokens: integer[][], all: integer[][], n_means: integer}
function M.calibration_windows(run)
  local wanted = { run.options.calibration_windows, run.options.mean_windows }
  local all = run:calibration((wanted[1] == 0 or wanted[2] == 0) and 0 or math.max(wanted[1], wanted[2]))
  local function count(n) return n == 0 and #all or math.min(n, #all) end
  return { all = all, n_means = count(wanted[2]), tokens = table.move(all, 1, count(wanted[1]), 1, {}) }
end

-- How batches of this run are looked at: where, and with the journal that resumes it.
local function how(run, label) return { label = label, place = run.place, journal = run.journal } end

---Means over the calibration windows; those that have been looked at are not run again.
function M.means(run, calibration, sequences, dims)
  local all = table.move(sequences, 1, math.min(#sequences, calibration.n_means), 1, {})
  if calibration.n_means > #all then
    local rest = table.move(calibration.all, #all + 1, calibration.n_means, 1, {})
    for _, s in ipairs(detect.sequences(run.model, rest, how(run, "means"))) do all[#all + 1] = s end
  end
  return detect.means(all, dims)
end

---The interventions: zero, and the means of each first layer that calibration saw.
---@return massact.Intervention[]
function M.plan(found, means)
  if not found.first_layer then return {} end
  local planned = { { name = "set_to_zero", value = function() return 0 end } }
  for _, layer in ipairs(keyed.keys(means)) do
    planned[#planned + 1] = {
      name = "set_to_mean_" .. layer,
      value = function(position, dim) return means[layer][position == 0 and "starting" or "nonstarting"][dim] end,
    }
  end
  return planned
end

---Every text under every intervention.
---@return table by text name: {perplexity, losses, sequences, log, windows}
function M.evaluate(run, found, planned)
  local results = {}
  for _, text in ipairs(run:texts()) do
    local result = perplexity.under(run.model, text.windows, found.first_layer, found.dims, planned, how(run, text.name))
    result.windows, result.perplexity = #text.windows, {}
    for key, losses in pairs(result.losses) do result.perplexity[key] = perplexity.of_losses(losses) end
    if not found.first_layer then result.perplexity.set_to_zero = result.perplexity.original end
    results[text.name] = result
  end
  return results
end

-- ---- the paper's files ----

-- Dims that no mean covers.
local function dims_without_mean(found, means)
  local covered, missing = {}, core.json.array()
  for _, kinds in pairs(means) do
    for _, by_dim in pairs(kinds) do for dim in pairs(by_dim) do covered[dim] = true end end
  end
  for _, dim in ipairs(found.dims) do if not covered[dim] then missing[#missing + 1] = dim end end
  return missing
end

local function keys_in_order(planned)
  local keys = core.json.array { "original" }
  if #planned == 0 then keys[2] = "set_to_zero" end
  for _, each in ipairs(planned) do keys[#keys + 1] = each.name end
  return keys
end

local function write_perplexities(run, found, means, planned, texts)
  local lines = { "Perplexity Results", "" }
  for _, key in ipairs(keys_in_order(planned)) do
    lines[#lines + 1] = key
    for _, name in ipairs(keyed.keys(texts)) do lines[#lines + 1] = ("%s: %s"):format(name, texts[name].perplexity[key]) end
    lines[#lines + 1] = ""
  end
  lines[#lines + 1] = "Dims without mean: " .. paper.list(dims_without_mean(found, means))
  lines[#lines + 1] = ""
  run:write("intervention_analysis/results_ppl.txt", table.concat(lines, "\n"))
end

-- Every reset with its original value, apart for the starting token and the others.
local function write_logs(run, planned, texts)
  for _, each in ipairs(planned) do
    for name, result in pairs(texts) do
      for _, kind in ipairs { "startingtoken", "nonstartingtoken" } do
        local lines = {}
        for _, reset in ipairs(result.log[each.name]) do
          if (reset.position == 0) == (kind == "startingtoken") then
            lines[#lines + 1] = ("window %d, position %d, dim %d: %.6f"):format(reset.window, reset.position, reset.dim, reset.was)
          end
        end
        lines[#lines + 1] = ""
        run:write(("intervention_analysis/%s_ppl/%s_%s.txt"):format(each.name, name, kind), table.concat(lines, "\n"))
      end
    end
  end
end

---The paper's files of the interventions.
function M.write(run, found, means, planned, texts)
  write_perplexities(run, found, means, planned, texts)
  write_logs(run, planned, texts)
end

-- ---- results ----

-- How many windows leave the range of f16, and from which layer on; their losses are not numbers.
local function overflows(sequences)
  local n, first = 0, math.huge
  for _, s in ipairs(sequences) do
    if s.overflow then n, first = n + 1, math.min(first, s.overflow) end
  end
  return n, n > 0 and first or core.json.null
end

---Adds what the interventions gave to the results of tokens_analysis.
function M.results(out, found, means, planned, texts)
  local array = tokens_analysis.array
  out.interventions = keys_in_order(planned)
  out.means, out.dims_without_mean = tokens_analysis.with_text_keys(means), dims_without_mean(found, means)
  out.perplexity, out.windows, out.positions, out.losses, out.windows_overflowed, out.overflow_layer = {}, {}, {}, {}, {}, {}
  for _, key in ipairs(out.interventions) do
    out.perplexity[key] = {}
    for name, text in pairs(texts) do out.perplexity[key][name] = text.perplexity[key] end
  end
  for name, text in pairs(texts) do
    out.windows[name], out.losses[name] = text.windows, text.losses
    out.windows_overflowed[name], out.overflow_layer[name] = overflows(text.sequences)
    out.positions[name] = core.json.array()
    for i, s in ipairs(text.sequences) do out.positions[name][i] = array(s.layers[1] and s.layers[1].positions or {}) end
  end
  out.perplexity_protocol = "paper: exp of the mean over windows of the mean loss of their tokens"
  return out
end

-- ---- from the results: table, pictures, report ----

---Rows of text, intervention, perplexity, windows.
function M.rows(results)
  local rows = {}
  for _, name in ipairs(keyed.keys(results.windows)) do
    for _, key in ipairs(results.interventions) do
      rows[#rows + 1] = { name, key, results.perplexity[key][name], results.windows[name] }
    end
  end
  return rows
end

---Perplexity of each text under each intervention.
---@return massact.Figure
function M.figure(results)
  local groups, least, most = {}, math.huge, 0
  for i, name in ipairs(keyed.keys(results.windows)) do
    groups[i] = { label = name, values = {} }
    for k, key in ipairs(results.interventions) do
      local value = results.perplexity[key][name]
      groups[i].values[k] = type(value) == "number" and value or 0 / 0
      if type(value) == "number" then least, most = math.min(least, value), math.max(most, value) end
    end
  end
  local layer = results.first_layer ~= core.json.null and (", layer " .. results.first_layer) or ""
  local fig = require("massact.plot").figure { title = results.model .. layer, y_label = "Perplexity",
    y_scale = most > 10 * least and "log" or "linear" }
  return fig:bars { labels = results.interventions, groups = groups }
end

---What the user reads.
function M.report(run, results)
  tokens_analysis.report(run, results)
  for _, name in ipairs(keyed.keys(results.windows)) do
    run:say("%s, %d windows of %d tokens%s:", name, results.windows[name], results.options.context_length,
      results.options.add_bos_token and ", BOS first" or "")
    for _, key in ipairs(results.interventions) do
      run:say("  %-16s %s", key, paper.perplexity(results.perplexity[key][name]))
    end
    if results.windows_overflowed[name] > 0 then
      run:say("  %d of the windows leave the range of f16 (65504) from layer %d on: their losses are not numbers; "
        .. "use --dtype bf16 or f32", results.windows_overflowed[name], results.overflow_layer[name])
    end
  end
end

return M
