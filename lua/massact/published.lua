-- A run's results beside what the paper's authors obtained for the same model (experiments/published.json).
local keyed = require "massact.keyed"
local massact = require "massact"

local M = {}

-- ---- finding what belongs together ----

local function plain(name) return (name:lower():gsub("^.*/", ""):gsub("[^%w]", "")) end

---The published entry of a model, by its name: "gpt2", "Llama-2-7b-hf", "google/gemma-2-2b" and the like.
---@param published table
---@param name string
---@return table? entry, string? key
function M.entry(published, name)
  local wanted = plain(name)
  for key, entry in pairs(published) do if plain(key) == wanted then return entry, key end end
  -- A local name may say more than the authors' (gpt2-f16); the longest that it begins with is meant.
  local found
  for key in pairs(published) do
    if wanted:sub(1, #plain(key)) == plain(key) and (not found or #key > #found) then found = key end
  end
  return found and published[found], found
end

---Names of the published models, sorted.
---@param published table
---@return string[]
function M.names(published)
  return keyed.keys(published)
end

-- The results' text that is the paper's data set: "wikitext-2-raw-test" is wikitext.
local function text_of(by_text, data_set)
  for name, value in pairs(by_text) do
    if plain(name):find(data_set, 1, true) then return value end
  end
end

-- ---- rows ----

---@class massact.PublishedRow
---@field what string
---@field measured? number
---@field published? number
---@field kind string "perplexity", "maximum", "magnitude", "layer", "dims"

-- As the authors' logs have it: a bf16 number.
local function as_bf16(value) return massact.tensor({ value }):to { dtype = "bf16" }:to { dtype = "f32" }:get(0) end

local function sorted(t)
  local keys = {}
  for key in pairs(t) do keys[#keys + 1] = key end
  table.sort(keys, function(a, b) return (tonumber(a) or math.huge) < (tonumber(b) or math.huge)
    or ((tonumber(a) or math.huge) == (tonumber(b) or math.huge) and tostring(a) < tostring(b)) end)
  return keys
end

local function number(value) return type(value) == "number" and value or nil end

local function perplexity_rows(rows, results, entry)
  if not results.perplexity or not entry.perplexity then return end
  for _, intervention in ipairs(sorted(entry.perplexity)) do
    for _, data_set in ipairs(sorted(entry.perplexity[intervention])) do
      local here = results.perplexity[intervention]
      rows[#rows + 1] = { what = ("%s, %s"):format(intervention, data_set), kind = "perplexity",
        measured = here and number(text_of(here, data_set)), published = number(entry.perplexity[intervention][data_set]) }
    end
  end
end

local function existence_rows(rows, results, entry)
  if not results.mean_max or not entry.existence then return end
  for _, layer in ipairs(sorted(entry.existence)) do
    local here = number(results.mean_max[math.tointeger(tonumber(layer)) + 1])
    rows[#rows + 1] = { what = "mean maximum, layer " .. layer, kind = "maximum", measured = here and as_bf16(here),
      published = entry.existence[layer], layer = tonumber(layer) }
  end
end

local function token_rows(rows, results, entry)
  local tokens = entry.tokens
  if not tokens or results.dims == nil then return end
  rows[#rows + 1] = { what = "first layer", kind = "layer", measured = number(results.first_layer), published = number(tokens.first_layer) }
  local found, all = {}, {}
  for _, dim in ipairs(results.dims) do found[dim], all[dim] = true, true end
  local published = {}
  for _, dim in ipairs(tokens.dims or {}) do published[dim], all[dim] = true, true end
  for _, dim in ipairs(sorted(all)) do
    rows[#rows + 1] = { what = ("dim %d is massive"):format(dim), kind = "dims", measured = found[dim] and 1 or 0,
      published = published[dim] and 1 or 0 }
  end
  local here = results.magnitude_at_first_layer or {}
  for _, position in ipairs(sorted(tokens.magnitude_at_first_layer_by_position or {})) do
    local dims = tokens.magnitude_at_first_layer_by_position[position]
    for _, dim in ipairs(sorted(dims)) do
      rows[#rows + 1] = { what = ("mean magnitude, position %s, dim %s"):format(position, dim), kind = "magnitude",
        measured = here[position] and here[position][dim] and here[position][dim].avg, published = dims[dim].avg }
    end
  end
end

---Every number that the results and the published entry both speak of.
---@param results table results.json of a run
---@param entry table of published.json, one of its "bos" and "no_bos"
---@return massact.PublishedRow[]
function M.rows(results, entry)
  local rows = {}
  existence_rows(rows, results, entry)
  token_rows(rows, results, entry)
  perplexity_rows(rows, results, entry)
  return rows
end

---In what the two differ that makes their numbers hard to compare.
---@param results table
---@param entry table
---@return string[]
function M.caveats(results, entry)
  local notes, options = {}, results.options or {}
  local function note(...) notes[#notes + 1] = string.format(...) end
  if entry.context_length and options.context_length and options.context_length ~= entry.context_length then
    note("context length %d here, %d there", options.context_length, entry.context_length)
  end
  if options.windows and options.windows > 0 then note("%d evaluation windows here, all of them there", options.windows) end
  if results.dtype ~= "bf16" then note("computed in %s here, in bf16 there", tostring(results.dtype)) end
  return notes
end

-- ---- as text ----

local function shown(value) return value and ("%.6g"):format(value) or "none" end

---The difference: relative for magnitudes and perplexities, absolute for counts.
---@param row massact.PublishedRow
---@return string
function M.difference(row)
  if not row.measured or not row.published then return row.measured == row.published and "same" or "-" end
  if row.kind == "layer" or row.kind == "dims" then
    return row.measured == row.published and "same" or ("%+d"):format(math.tointeger(row.measured - row.published) or 0)
  end
  return ("%+.2f %%"):format(100 * (row.measured / row.published - 1))
end

---@param rows massact.PublishedRow[]
---@return string
function M.markdown(rows)
  local lines = { "| what | measured | published | difference |", "| --- | ---: | ---: | ---: |" }
  for _, row in ipairs(rows) do
    lines[#lines + 1] = ("| %s | %s | %s | %s |"):format(row.what, shown(row.measured), shown(row.published), M.difference(row))
  end
  return table.concat(lines, "\n") .. "\n"
end

---@param rows massact.PublishedRow[]
---@return string
function M.csv(rows)
  local lines = { "what,measured,published,difference" }
  for _, row in ipairs(rows) do
    lines[#lines + 1] = ('"%s",%s,%s,"%s"'):format(row.what, row.measured and ("%.17g"):format(row.measured) or "",
      row.published and ("%.17g"):format(row.published) or "", M.difference(row))
  end
  return table.concat(lines, "\n") .. "\n"
end

-- ---- the paper's Table 1 ----

-- The value of the data set that a text's name tells of: "wikitext-2-raw-test" is wikitext.
local function set_of(by_set, text)
  if by_set[text] then return by_set[text] end
  for name, value in pairs(by_set) do if plain(text):find(plain(name), 1, true) then return value end end
end

-- "8.43 (8.41)": measured, and what was published.
local function beside(measured, published)
  local function text(value) return number(value) and ("%.5g"):format(value) or "-" end
  return published and ("%s (%s)"):format(text(measured), text(published)) or text(measured)
end

-- The perplexity with the last of the means that were set: the paper's one column for the mean.
local function mean_of(perplexity, text)
  local last
  for _, name in ipairs(sorted(perplexity or {})) do
    if name:match "^set_to_mean" then last = set_of(perplexity[name], text) or last end
  end
  return last
end

---Perplexity of every model and text as it is, with massive activations set to zero, and to their mean; what the paper
---published in parentheses (its Table 1, and 6 without BOS).
---@param cases {results?: table, case: string}[] of intervention runs
---@param known table published.json
---@return string markdown
function M.table1(cases, known)
  local lines = { "| model | BOS | text | original | set to zero | set to mean | first layer | dims |",
    "| --- | --- | --- | ---: | ---: | ---: | ---: | --- |" }
  for _, case in ipairs(cases) do
    local r = case.results
    for _, text in ipairs(r and sorted(r.windows) or {}) do
      local bos = r.options.add_bos_token ~= false
      local entry = M.entry(known, r.model)
      local there = entry and entry[bos and "bos" or "no_bos"].perplexity or {}
      local function published(name) return there[name] and number(set_of(there[name], text)) end
      lines[#lines + 1] = ("| %s | %s | %s | %s | %s | %s | %s | %s |"):format(r.model, bos and "yes" or "no", text,
        beside(r.perplexity.original[text], published "original"), beside(r.perplexity.set_to_zero[text], published "set_to_zero"),
        beside(mean_of(r.perplexity, text), number(mean_of(there, text))), tostring(number(r.first_layer) or "none"),
        table.concat(r.dims, " "))
    end
    if not r then lines[#lines + 1] = ("| %s | | | failed | | | | |"):format(case.case) end
  end
  return table.concat(lines, "\n") .. "\n\nIn parentheses: as published (Owen et al. 2025, Tables 1 and 6).\n"
end

-- ---- as a picture ----

---Perplexities side by side, or the maximum by layer where the results are of existence.
---@param rows massact.PublishedRow[]
---@param title string
---@return massact.Figure? nil where there is nothing to draw
function M.figure(rows, title)
  local plot = massact.plot
  local labels, measured, published = {}, {}, {}
  local layers, here, there = {}, {}, {}
  for _, row in ipairs(rows) do
    if row.measured and row.published and row.kind == "perplexity" then
      labels[#labels + 1] = (row.what:gsub("set_to_", ""):gsub(", ", " "))
      measured[#measured + 1], published[#published + 1] = row.measured, row.published
    elseif row.measured and row.kind == "maximum" then
      layers[#layers + 1], here[#here + 1], there[#there + 1] = row.layer, row.measured, row.published
    end
  end
  if #labels > 0 then
    local most, least = math.max(table.unpack(published)), math.min(table.unpack(published))
    local fig = plot.figure { title = title, y_label = "Perplexity", y_scale = most > 10 * least and "log" or "linear",
      width = math.max(8, 1.4 * #labels) }
    return fig:bars { labels = labels, groups = { { label = "measured", values = measured }, { label = "published", values = published } } }
  elseif #layers > 0 then
    local fig = plot.figure { title = title, x_label = "Layer Number", y_label = "Mean of the maxima", integers = true }
    fig:line { x = layers, y = there, label = "published", color = "gray", marker = true }
    return fig:line { x = layers, y = here, label = "measured", color = "blue", marker = true }
  end
end

return M
