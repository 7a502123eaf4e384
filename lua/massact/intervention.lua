-- The parts of the paper's intervention_analysis: what experiments/intervention.lua composes.
local core = require "massact.core"
local data = require "massact.data"
local detect = require "massact.detect"
local options = require "massact.options"
local perplexity = require "massact.perplexity"

local M = {}

-- ---- the model and its windows ----

---Loads the model and settles the context: at most 4096 and the model's limit; only an explicit excess is an error.
function M.load(opt)
  local model = require("massact").load(opt.pretrained, { device = opt.device, dtype = opt.dtype })
  local limit = model.max_positions
  if opt.given.context_length and opt.context_length > limit then
    options.usage_error("--context_length %d is more than the %d positions of %s", opt.context_length, limit, model.name)
  end
  opt.context_length = opt.context_length or math.min(4096, limit)
  if opt.context_length < 2 then options.usage_error("--context_length must be at least 2") end
  return model
end

local function joined(files)
  local texts = {}
  for i, file in ipairs(files) do texts[i] = data.read(file) end
  return table.concat(texts, "\n\n")
end

---Calibration windows: the first ones serve to find, all of them for the means.
---@return {tokens: integer[][], all: integer[][], n_means: integer}
function M.calibration_windows(model, opt)
  local wanted = { opt.calibration_windows, opt.mean_windows }
  local limit = (wanted[1] == 0 or wanted[2] == 0) and 0 or math.max(wanted[1], wanted[2])
  local all = data.windows(model.tokenizer, joined(opt.calibration_data), {
    length = opt.context_length, bos = opt.add_bos_token, limit = limit,
    name = "the calibration text " .. table.concat(opt.calibration_data, ","),
  })
  local function count(n) return n == 0 and #all or math.min(n, #all) end
  return { all = all, n_means = count(wanted[2]), tokens = table.move(all, 1, count(wanted[1]), 1, {}) }
end

---How batches of this run are looked at: where, and with the journal that resumes it.
---@return massact.Batches
local function how(run, label) return { label = label, place = run.place, journal = run.journal } end

---tokens_analysis over the calibration windows.
function M.find(run, calibration) return detect.detect(run.model, calibration.tokens, how(run, "detection")) end

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
  for _, layer in ipairs(detect.sorted(means)) do
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
  local model, opt, results = run.model, run.options, {}
  for _, file in ipairs(opt.data) do
    local windows = data.windows(model.tokenizer, data.read(file), {
      length = opt.context_length, bos = opt.add_bos_token, limit = opt.windows, name = "text " .. file,
    })
    local name = data.stem(file)
    local result = perplexity.under(model, windows, found.first_layer, found.dims, planned, how(run, name))
    result.windows, result.perplexity = #windows, {}
    result.ids = table.move(windows[1], 1, math.min(16, #windows[1]), 1, {})
    for key, losses in pairs(result.losses) do result.perplexity[key] = perplexity.of_losses(losses) end
    if not found.first_layer then result.perplexity.set_to_zero = result.perplexity.original end
    results[name] = result
  end
  return results
end

-- ---- the paper's files ----

local function token_text(tokenizer, id) return (tokenizer:decode({ id }):gsub("\n", "\\n")) end

local function list(values) return "[" .. table.concat(values, ", ") .. "]" end

---verify_massive_activations_location_and_magnitude_and_tokens.txt
function M.write_tokens(run, found, sequences, windows)
  local lines, tokenizer = {}, run.model.tokenizer
  local function put(format, ...) lines[#lines + 1] = format:format(...) end
  for i, s in ipairs(sequences) do
    put("Sample %d", i - 1)
    for _, massive in ipairs(s.layers) do
      local tokens = {}
      for k, p in ipairs(massive.positions) do tokens[k] = ("%q"):format(token_text(tokenizer, windows[i][p + 1])) end
      put("  Layer %d: positions %s, tokens %s, dims %s", massive.layer, list(massive.positions), list(tokens), list(massive.dims))
      for _, e in ipairs(massive.entries) do put("    position %d, dim %d: %.4f", e.position, e.dim, math.abs(e.value)) end
    end
    if #s.layers == 0 then put("  none") end
  end
  put("")
  put("Summary")
  put("First layer: %s", found.first_layer or "none")
  put("Dims: %s", list(found.dims))
  for _, what in ipairs { { "lowest first layer seen so far", found.magnitude }, { "first layer", found.magnitude_at_final } } do
    put("Magnitude at the %s:", what[1])
    for _, position in ipairs(detect.sorted(what[2])) do
      for _, dim in ipairs(detect.sorted(what[2][position])) do
        local m = what[2][position][dim]
        put("  position %d, dim %d: average %.4f, std %.4f, samples %d", position, dim, m.avg, m.std, m.n)
      end
    end
  end
  put("Tokens by position:")
  for _, position in ipairs(detect.sorted(found.tokens)) do
    local tokens = {}
    for k, id in ipairs(found.tokens[position]) do tokens[k] = ("%q"):format(token_text(tokenizer, id)) end
    put("  position %d: %s", position, list(tokens))
  end
  put("")
  run:write("verify_massive_activations_location_and_magnitude_and_tokens.txt", table.concat(lines, "\n"))
end

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
  local keys = { "original" }
  if #planned == 0 then keys[2] = "set_to_zero" end
  for _, each in ipairs(planned) do keys[#keys + 1] = each.name end
  return keys
end

local function write_perplexities(run, found, means, planned, results)
  local lines = { "Perplexity Results", "" }
  for _, key in ipairs(keys_in_order(planned)) do
    lines[#lines + 1] = key
    for _, name in ipairs(detect.sorted(results)) do lines[#lines + 1] = ("%s: %s"):format(name, results[name].perplexity[key]) end
    lines[#lines + 1] = ""
  end
  lines[#lines + 1] = "Dims without mean: " .. list(dims_without_mean(found, means))
  lines[#lines + 1] = ""
  run:write("intervention_analysis/results_ppl.txt", table.concat(lines, "\n"))
end

-- Every reset with its original value, apart for the starting token and the others.
local function write_logs(run, planned, results)
  for _, each in ipairs(planned) do
    for name, result in pairs(results) do
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

-- How many windows leave the range of f16, and from which layer on; their losses are not numbers.
local function overflows(sequences)
  local n, first = 0, math.huge
  for _, s in ipairs(sequences) do
    if s.overflow then n, first = n + 1, math.min(first, s.overflow) end
  end
  return n, first
end

-- ---- results.json ----

local function with_text_keys(t)
  if type(t) ~= "table" then return t end
  local out = {}
  for key, value in pairs(t) do out[type(key) == "number" and tostring(key) or key] = with_text_keys(value) end
  return out
end

local function array(values) return core.json.array(table.move(values, 1, #values, 1, {})) end

function M.write_results(run, found, means, planned, results)
  write_perplexities(run, found, means, planned, results)
  write_logs(run, planned, results)
  local out = run:record(run.options.data)
  out.first_layer = found.first_layer or core.json.null
  out.dims = array(found.dims)
  out.magnitude_at_first_layer = with_text_keys(found.magnitude)
  out.magnitude_at_final_first_layer = with_text_keys(found.magnitude_at_final)
  out.tokens, out.token_ids = {}, {}
  for position, ids in pairs(found.tokens) do
    local texts = core.json.array()
    for i, id in ipairs(ids) do texts[i] = run.model.tokenizer:decode { id } end
    out.tokens[tostring(position)], out.token_ids[tostring(position)] = texts, array(ids)
  end
  out.means, out.dims_without_mean = with_text_keys(means), dims_without_mean(found, means)
  out.perplexity, out.windows, out.positions, out.losses, out.first_ids, out.windows_overflowed = {}, {}, {}, {}, {}, {}
  for _, key in ipairs(keys_in_order(planned)) do
    out.perplexity[key] = {}
    for name, result in pairs(results) do out.perplexity[key][name] = result.perplexity[key] end
  end
  for name, result in pairs(results) do
    out.windows[name], out.losses[name], out.first_ids[name] = result.windows, result.losses, array(result.ids)
    out.windows_overflowed[name] = overflows(result.sequences)
    out.positions[name] = core.json.array()
    for i, s in ipairs(result.sequences) do out.positions[name][i] = array(s.layers[1] and s.layers[1].positions or {}) end
  end
  out.perplexity_protocol = "paper: exp of the mean over windows of the mean loss of their tokens"
  core.json.save(run:path "results.json", out)
end

-- ---- pictures ----

-- Means over sequences of each layer's largest and median magnitude.
local function by_layer(sequences)
  local max, median, n = {}, {}, #sequences
  for _, s in ipairs(sequences) do
    for l = 1, #s.max do
      max[l] = (max[l] or 0) + s.max[l] / n
      median[l] = (median[l] or 0) + s.median[l] / n
    end
  end
  return max, median
end

function M.draw(run, found, sequences, planned, results)
  local plot, metadata = require "massact.plot", run:provenance()
  local max, median = by_layer(sequences)
  local layers = {}
  for l = 1, #max do layers[l] = l - 1 end
  local fig = plot.figure { title = run.model.name, x_label = "Layer Number", y_label = "Activation Magnitude", integers = true }
  fig:line { x = layers, y = max, label = "top-1 hidden states", color = "blue", marker = true }
  fig:line { x = layers, y = median, label = "median hidden states", color = "gray", marker = true }
  fig:save(run:path "magnitude_by_layer.png", { metadata = metadata })

  local keys, names, groups = keys_in_order(planned), detect.sorted(results), {}
  local least, most = math.huge, 0
  for i, name in ipairs(names) do
    local values = {}
    for k, key in ipairs(keys) do
      values[k] = results[name].perplexity[key]
      least, most = math.min(least, values[k]), math.max(most, values[k])
    end
    groups[i] = { label = name, values = values }
  end
  local bars = plot.figure {
    title = run.model.name .. (found.first_layer and (", layer " .. found.first_layer) or ""),
    y_label = "Perplexity", y_scale = most > 10 * least and "log" or "linear",
  }
  bars:bars { labels = keys, groups = groups }
  bars:save(run:path "perplexity.png", { metadata = metadata })
end

-- ---- what the user reads ----

function M.report(run, found, planned, results)
  if found.first_layer then
    print(("massive activations from layer %d on, in dims %s"):format(found.first_layer, table.concat(found.dims, ", ")))
  else
    print "no massive activations in the calibration windows: nothing to intervene on"
  end
  for _, name in ipairs(detect.sorted(results)) do
    print(("%s, %d windows of %d tokens%s:"):format(name, results[name].windows, run.options.context_length,
      run.options.add_bos_token and ", BOS first" or ""))
    for _, key in ipairs(keys_in_order(planned)) do
      print(("  %-16s perplexity %.4g"):format(key, results[name].perplexity[key]))
    end
    local n, layer = overflows(results[name].sequences)
    if n > 0 then
      print(("  %d of the windows leave the range of f16 (65504) from layer %d on: their losses are not numbers; "
        .. "use --dtype bf16 or f32"):format(n, layer))
    end
  end
  for _, file in ipairs { "results.json", "perplexity.png", "magnitude_by_layer.png" } do print(run:path(file)) end
end

return M
