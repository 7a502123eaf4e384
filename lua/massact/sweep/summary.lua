-- What a sweep found: a row a case, in the plan's order, the same bytes however often it was interrupted.
local core = require "massact.core"
local case_files = require "massact.sweep.case"
local keyed = require "massact.keyed"
local tables = require "massact.tables"

local M = {}

local null = core.json.null

-- What made results, not what they are.
local is_record = { options = true, machine = true, timings = true, model_sha256 = true,
  data_sha256 = true, massact = true, experiment = true, seed = true, first_ids = true, bos = true, n_layers = true, family = true }

local function is_scalar(value) return type(value) ~= "table" end

-- A list of layers, dims or names as one text; numbers by layer are no cell of a table.
local function short_list(value)
  if #value == 0 or #value > 64 then return nil end
  local texts = {}
  for i, each in ipairs(value) do
    if not is_scalar(each) or math.type(each) == "float" then return nil end
    texts[i] = tostring(each)
  end
  return table.concat(texts, " ")
end

-- Numbers, texts and short lists of results, by their path ("perplexity.original.text"), at most three names deep.
local function flatten(value, path, depth, into)
  if value == null then into[path] = ""
  elseif is_scalar(value) then into[path] = value
  elseif short_list(value) then into[path] = short_list(value)
  elseif #value == 0 and depth < 3 then
    for key, each in pairs(value) do
      if depth > 0 or not is_record[key] then
        flatten(each, depth == 0 and key or path .. "." .. key, depth + 1, into)
      end
    end
  end
end

-- The value at "a.b.c"; names may hold dots themselves.
local function at(value, path)
  if path == "" then return value end
  if type(value) ~= "table" then return nil end
  for key, each in pairs(value) do
    local text = tostring(key)
    if path == text then return each end
    if path:sub(1, #text + 1) == text .. "." then
      local found = at(each, path:sub(#text + 2))
      if found ~= nil then return found end
    end
  end
end

local function cells_of(results, wanted)
  local cells = {}
  if not wanted then
    flatten(results, "", 0, cells)
    return cells
  end
  for _, path in ipairs(wanted) do
    local value = at(results, path)
    if type(value) == "table" and value ~= null then value = short_list(value) end
    cells[path] = value == null and "" or value
  end
  return cells
end

local function text_of(value) return type(value) == "table" and table.concat(value, ",") or value end

---The rows of all cases: those that have ended, and those that wait.
---@param out string
---@param cases massact.SweepCase[]
---@param wanted? string[] paths into results.json
---@return string[] columns, table[] rows, table[] entries for JSON
function M.gather(out, cases, wanted)
  local varied, found, entries = {}, {}, core.json.array()
  for i, case in ipairs(cases) do
    local record = case_files.read(out, case)
    local results = record and record.results and core.json.load(case_files.folder(out, case) .. "/" .. record.results)
    entries[i] = { case = case.name, state = record and record.state or "waiting", options = case.options,
      results = results and cells_of(results, wanted) or {} }
    for key in pairs(case.varied) do varied[key] = true end
    for key in pairs(entries[i].results) do found[key] = true end
  end
  local options, paths = keyed.keys(varied), wanted or keyed.keys(found)
  local columns = { "case", "state" }
  table.move(options, 1, #options, #columns + 1, columns)
  table.move(paths, 1, #paths, #columns + 1, columns)
  local rows = {}
  for i, case in ipairs(cases) do
    local row = { entries[i].case, entries[i].state }
    for _, key in ipairs(options) do row[#row + 1] = case.varied[key] == nil and "" or text_of(case.varied[key]) end
    for _, path in ipairs(paths) do
      local value = entries[i].results[path]
      row[#row + 1] = value == nil and "" or value
    end
    rows[i] = row
  end
  return columns, rows, entries
end

-- What a config's report makes of all results: files by name.
local function write_report(out, cases, report)
  local entries = {}
  for i, case in ipairs(cases) do
    local record = case_files.read(out, case)
    local path = record and record.results
    entries[i] = { case = case.name, options = case.options, varied = case.varied, state = record and record.state or "waiting",
      results = path and core.json.load(case_files.folder(out, case) .. "/" .. path) or nil }
  end
  for name, text in pairs(report(entries)) do core.system.write(out .. "/" .. name, text) end
end

---Writes summary.csv, summary.json and summary.md, and what the config's report gives.
---@param out string
---@param cases massact.SweepCase[]
---@param config massact.SweepConfig
function M.write(out, cases, config)
  local columns, rows, entries = M.gather(out, cases, config.results)
  core.system.write(out .. "/summary.csv", tables.csv(columns, rows))
  core.system.write(out .. "/summary.md", tables.markdown(columns, rows))
  core.json.save(out .. "/summary.json", entries)
  if config.report then write_report(out, cases, config.report) end
end

return M
