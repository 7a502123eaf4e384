-- A run: an output folder with the paper's name and config.txt, a record of what made the results, and files that
-- appear whole or not at all.
local core = require "massact.core"
local journal = require "massact.journal"
local places = require "massact.place"

local M = {}

local Run = {}
Run.__index = Run

local function bool_text(value) return value and "True" or "False" end

-- The paper's folder: MODEL_{module}_{layer_path}_{attn_path}_{context}_{bos}_{logits}_{seed}.
local function folder_name(name, o)
  return ("%s/%s/%s_%s_%s_%s_%d_%s_%s_%d"):format(o.save_dir, name, name, o.module_name, o.layer_path, o.attn_path,
    o.context_length, bool_text(o.add_bos_token), bool_text(o.show_logits), o.seed)
end

local function config_text(model, o)
  return table.concat({
    "Model: " .. model.name, "Model Path: " .. o.pretrained, "Module Name: " .. o.module_name,
    "Layer Path: " .. o.layer_path, "Attention Path: " .. o.attn_path, "Context Length: " .. o.context_length,
    "Add BOS Token: " .. bool_text(o.add_bos_token), "Show Logits: " .. bool_text(o.show_logits), "Seed: " .. o.seed, "",
  }, "\n")
end

-- SHA-256 of every file of the model.
local function model_hashes(model)
  local hashes = {}
  if not core.system.is_folder(model.path) then
    hashes[model.path:match "([^/]+)$"] = core.system.sha256(model.path)
    return hashes
  end
  for _, file in ipairs(core.system.list(model.path)) do
    if file:match "%.safetensors$" or file:match "%.json$" then
      hashes[file] = core.system.sha256(model.path .. "/" .. file)
    end
  end
  return hashes
end

-- What results depend on, cheap to tell: options, version, and the files' sizes and times of change.
local function made_by(model, options)
  local files = {}
  local function add(path) files[path] = table.pack(core.system.stamp(path)) end
  if core.system.is_folder(model.path) then
    for _, file in ipairs(core.system.list(model.path)) do add(model.path .. "/" .. file) end
  else
    add(model.path)
  end
  for _, value in pairs(options) do
    if type(value) == "table" then for _, file in ipairs(value) do add(file) end end
  end
  return { massact = require("massact").version, options = options, files = files }
end

---Starts a run: makes the folder, writes config.txt and opens the journal; an interrupted run with the same options goes on
---where it was.
---@param model massact.Model
---@param options table with the paper's options
---@return massact.Run
function M.run(model, options)
  local self = setmetatable({ model = model, options = options, started = core.system.clock(), timings = {} }, Run)
  self.place = places.of(model, options)
  self.folder = folder_name(model.name, options)
  core.system.make_folder(self.folder)
  self.journal = journal.open(self:path "unfinished.jsonl", made_by(model, options))
  self:write("config.txt", config_text(model, options))
  return self
end

---The run is complete: there is nothing to resume any more.
function Run:finish() self.journal:finish() end

---Path of a file in the run's folder; its parent folders are made.
function Run:path(name)
  local parent = name:match "^(.*)/[^/]*$"
  if parent then core.system.make_folder(self.folder .. "/" .. parent) end
  return self.folder .. "/" .. name
end

---Writes a text file, whole or not at all.
function Run:write(name, text) core.system.write(self:path(name), text) end

---Calls `work` and keeps the seconds that it took under `name`.
function Run:timed(name, work, ...)
  local before = core.system.clock()
  local results = table.pack(work(...))
  self.timings[name] = core.system.clock() - before
  return table.unpack(results, 1, results.n)
end

---What made the results: options, versions, hashes, machine, timings.
function Run:record(files)
  local options, data = {}, {}
  for key, value in pairs(self.options) do options[key] = value end
  for _, file in ipairs(files) do data[file] = core.system.sha256(file) end
  self.timings.total = core.system.clock() - self.started
  return {
    options = options, massact = require("massact").version, model = self.model.name, family = self.model.family,
    model_sha256 = model_hashes(self.model), data_sha256 = data, machine = core.system.machine(),
    timings_s = self.timings, peak_memory_bytes = core.system.peak_memory(), dtype = self.model.dtype,
  }
end

---Short text for a picture's provenance.
function Run:provenance()
  return { Software = "massact " .. require("massact").version, Source = self.model.name,
    ["massact:options"] = core.json.text(setmetatable({}, { __index = self.options }) and self.options) }
end

return M
