-- A run: a script's output folder with the record of what made its results, and files that appear whole or not at all.
--
--   local run = massact.run(opt)                                  -- the model, the folder, the journal
--   local results = run:results(function(model) ... end)          -- measured, recorded, saved
--   run:draw("picture.png", figure)                               -- from `results` alone
--   run:finish()
--
-- What is drawn and said comes from `results` as they were saved, so that --redraw does it again without the model.
local core = require "massact.core"
local data = require "massact.data"
local journal = require "massact.journal"
local memory = require "massact.memory"
local options = require "massact.options"
local paper = require "massact.paper"
local places = require "massact.place"
local tables = require "massact.tables"
local token_text = require "massact.token_text"

local M = {}

---@class massact.Run
---@field name string the script's
---@field folder string
---@field options table
---@field model? massact.Model nil where saved results are drawn again
---@field place? massact.Place where --module_name looks
---@field journal? massact.Journal
local Run = {}
Run.__index = Run

-- ---- beginning ----

local function check_device(device)
  if device == "auto" then return end
  local usable, problem = pcall(core.tensor.full, { 1 }, "f32", device, 0)
  if usable then return end
  error(("--device %s: %s; use --device cpu"):format(device, (problem:gsub("^device '.-': ", ""):gsub("; use cpu$", ""))), 0)
end

-- Loads the model and settles the context: at most 4096 and the model's limit; only an explicit excess is an error.
local function load_model(opt)
  check_device(opt.device)
  local model = require("massact").load(opt.pretrained, { device = opt.device, dtype = opt.dtype })
  local limit = model.max_positions
  if opt.given.context_length and opt.context_length > limit then
    options.usage_error("--context_length %d is more than the %d positions of %s", opt.context_length, limit, model.name)
  end
  opt.context_length = math.min(opt.context_length or 4096, limit)
  if opt.context_length < 2 then options.usage_error("--context_length must be at least 2") end
  memory.check_pass(model, math.max(2 * opt.context_length, 1024)) -- a batch (detect.batch_of)
  return model
end

-- Texts that were asked for can be opened, before anything long begins.
local function check_texts(opt)
  for _, option in ipairs { "data", "calibration_data" } do
    for _, spec in ipairs(opt.given[option] and opt[option] or {}) do
      for _, file in ipairs(data.resolve(spec, opt).files) do core.text.open(file):close() end
    end
  end
end

-- What results depend on, cheap to tell: options, version, and the files' sizes and times of change.
local function made_by(model, opt)
  local files = {}
  local function add(path) files[path] = table.pack(core.system.stamp(path)) end
  if core.system.is_folder(model.path) then
    for _, file in ipairs(core.system.list(model.path)) do add(model.path .. "/" .. file) end
  else
    add(model.path)
  end
  for _, option in ipairs { "data", "calibration_data" } do
    for _, spec in ipairs(opt[option] or {}) do
      local found, source = pcall(data.resolve, spec, opt)
      for _, file in ipairs(found and source.files or {}) do add(file) end
    end
  end
  return { massact = require("massact").version, options = opt, files = files }
end

local function script_name() return data.stem(arg and arg[0] or "script.lua") end

-- A run that only draws: beside the results that --redraw names.
local function redrawing(opt)
  local path = opt.redraw
  if core.system.is_folder(path) then path = path:gsub("/$", "") .. "/" .. script_name() .. ".json" end
  local saved = core.json.load(path)
  if type(saved) ~= "table" or saved.experiment ~= script_name() then
    options.usage_error("--redraw %s: not the results of %s", path, script_name())
  end
  for key, value in pairs(saved.options) do if not opt.given[key] then opt[key] = value end end
  return setmetatable({ name = script_name(), options = opt, saved = saved, written = {}, folder = path:match "^(.*)/[^/]*$" or "." }, Run)
end

---Starts a run: loads the model, makes the folder, writes config.txt and opens the journal; an interrupted run with the same
---options goes on where it was.
---@param opt table what massact.options gave for paper.options
---@param model? massact.Model one that is loaded already
---@return massact.Run
function M.run(opt, model)
  if opt.redraw then return redrawing(opt) end
  local self = setmetatable({ name = script_name(), options = opt, started = core.system.clock(), timings = {}, hashes = {},
    first_ids = {}, written = {} }, Run)
  check_texts(opt)
  self.model = model or load_model(opt)
  self.place = places.of(self.model, opt)
  self.folder = paper.folder(self.model.name, opt)
  core.system.make_folder(self.folder)
  self.journal = journal.open(self:path(self.name .. ".unfinished.jsonl"), made_by(self.model, opt))
  self:write("config.txt", paper.config(self.model.name, opt))
  return self
end

-- ---- what is looked at ----

---@class massact.Sentence
---@field ids integer[]
---@field tokens string[] their texts
---@field bos boolean whether the first is BOS

---The sentence of the options, BOS first where asked (never twice).
---@param text? string another sentence
---@return massact.Sentence
function Run:sentence(text)
  text = text or self.options.sentence
  local tokenizer = self.model.tokenizer
  local ids = tokenizer:encode(text)
  local bos = self.options.add_bos_token and data.bos(tokenizer)
  if bos and ids[1] ~= bos then
    -- As the paper has it, BOS is text before the sentence; where that does not give the token, the token is put there.
    ids = tokenizer:encode((tokenizer:token(bos) or "") .. text)
    if ids[1] ~= bos then ids = table.move(tokenizer:encode(text), 1, #ids, 2, { bos }) end
  end
  if #ids == 0 then options.usage_error("--sentence holds no token") end
  return { ids = ids, tokens = token_text.list(tokenizer, ids), bos = bos ~= nil and ids[1] == bos }
end

local function first_ids(windows) return table.move(windows[1], 1, math.min(16, #windows[1]), 1, core.json.array()) end

local function hash(self, source)
  for _, file in ipairs(source.files) do self.hashes[file] = self.hashes[file] or core.system.sha256(file) end
end

---Windows of the calibration texts.
---@param limit? integer at most so many (--calibration_windows); 0: all
---@return integer[][]
function Run:calibration(limit)
  local opt = self.options
  local text, sources = data.text(opt.calibration_data, opt)
  for _, source in ipairs(sources) do hash(self, source) end
  local windows = data.windows(self.model.tokenizer, text, { length = opt.context_length, bos = opt.add_bos_token,
    limit = limit or opt.calibration_windows, name = "the calibration text " .. table.concat(opt.calibration_data, ",") })
  self.first_ids.calibration = first_ids(windows)
  return windows
end

---@class massact.Text
---@field name string the file's, without extension, or the paper's name
---@field text string
---@field limit integer windows at most, 0: all
---@field windows integer[][]

---The evaluation texts, --windows of each.
---@return massact.Text[]
function Run:texts()
  local opt, texts = self.options, {}
  for i, spec in ipairs(opt.data) do
    local text, sources = data.text(spec, opt)
    local limit, most = opt.windows, sources[1].max_windows
    if most and (limit == 0 or limit > most) then limit = most end
    texts[i] = { name = sources[1].name, text = text, limit = limit, windows = data.windows(self.model.tokenizer, text,
      { length = opt.context_length, bos = opt.add_bos_token, limit = limit, name = "text " .. spec }) }
    self.first_ids[texts[i].name] = first_ids(texts[i].windows)
    hash(self, sources[1])
  end
  return texts
end

-- ---- results ----

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

-- What made the results: options, versions, hashes, machine.  Only `timings` (seconds, and memory) differs from one run to the next.
local function record(self)
  local model, opt = self.model, {}
  for key, value in pairs(self.options) do opt[key] = value end
  self.timings.total, self.timings.peak_memory_bytes = core.system.clock() - self.started, core.system.peak_memory()
  local bos = self.options.add_bos_token and data.bos(model.tokenizer)
  return {
    experiment = self.name, options = opt, massact = require("massact").version, model = model.name, family = model.family,
    model_sha256 = model_hashes(model), data_sha256 = self.hashes, machine = core.system.machine(model:device()), timings = self.timings,
    dtype = model.dtype, seed = self.options.seed, first_ids = self.first_ids,
    n_layers = model.n_layers, bos = bos and { id = bos, text = token_text.text(model.tokenizer, bos) } or core.json.null,
  }
end

---The results: what `measure` gives and what made it, saved as NAME.json, and as results.json, which is that of the folder's
---last run; with --redraw what was saved before.
---@param measure fun(model: massact.Model): table
---@return table
function Run:results(measure)
  if self.saved then return self.saved end
  local results = measure(self.model)
  for key, value in pairs(record(self)) do results[key] = value end
  local text = core.json.text(results)
  for _, file in ipairs { self.name .. ".json", "results.json" } do
    self:write(file, text .. "\n")
    self.written[#self.written + 1] = file
  end
  self.saved = core.json.parse(text)
  return self.saved
end

---Calls `work` and keeps the seconds that it took under `name`.
function Run:timed(name, work, ...)
  local before = core.system.clock()
  local results = table.pack(work(...))
  self.timings[name] = core.system.clock() - before
  return table.unpack(results, 1, results.n)
end

-- ---- files ----

---Path of a file in the run's folder; its parent folders are made.
function Run:path(name)
  local parent = name:match "^(.*)/[^/]*$"
  if parent then core.system.make_folder(self.folder .. "/" .. parent) end
  return self.folder .. "/" .. name
end

---Writes a text file, whole or not at all.
function Run:write(name, text) core.system.write(self:path(name), text) end

---A table as CSV (RFC 4180); null is an empty field.
---@param name string
---@param columns string[]
---@param rows any[][] each in the order of the columns
function Run:csv(name, columns, rows)
  self:write(name, tables.csv(columns, rows))
  self.written[#self.written + 1] = name
end

---Saves a figure (or a grid) of the run, with its origin in the file; the ending is that of --format.
---@param name string "picture.png"
---@param figure massact.Figure
function Run:draw(name, figure)
  name = name:gsub("%.png$", "." .. self.options.format)
  local made = self.saved or {}
  figure:save(self:path(name), { metadata = { Software = "massact " .. require("massact").version, Source = made.model,
    ["massact:options"] = core.json.text(made.options or {}) } })
  self.written[#self.written + 1] = name
end

---A line for the user.
function Run.say(_, format, ...) print(format:format(...)) end

---The run is complete: nothing is left to resume, and the user hears what was written.
function Run:finish()
  if self.journal then self.journal:finish() end
  if #self.written > 0 then print(("%s/: %s"):format(self.folder, table.concat(self.written, ", "))) end
end

return M
