-- What the paper's command line and output folders look like (Owen et al. 2025, its public code): every experiment takes
-- these options, with `-` or `_` in their names, and writes into the same folder.
local M = {}

local home = require("massact").home
local token_text = require "massact.token_text"
local default = home .. "/experiments/default/"

---The options that every experiment takes; `extra` adds to them, or replaces some.
---@param extra? table<string, table>
---@return table<string, table>
function M.options(extra)
  local options = {
    pretrained = { "model", default = default .. "model", help = "Hugging Face folder, .gguf file or hub name" },
    module_name = { "string", default = "layer", help = "layer, or a module inside it: mlp, self_attn" },
    layer_path = { "string", default = "model.layers", help = "where the checkpoint keeps its layers" },
    attn_path = { "string", default = "self_attn", help = "where a layer keeps its attention" },
    show_logits = { "boolean", default = true, help = "attention before its softmax, where attention is shown; false: after it" },
    dtype = { "dtype", default = "f32", help = "what the model computes in: f32, bf16 or f16 (or torch.bfloat16 ...)" },
    device = { "string", default = "auto", help = "auto (a GPU where there is one), cpu, cuda or cuda:N" },
    add_bos_token = { "boolean", default = true, help = "begin the sentence and every window with BOS" },
    context_length = { "integer", help = "tokens a window; default: the model's limit, at most 4096" },
    sentence = { "string", default = "Summer is warm. Winter is cold.", help = "what experiments that look at one sentence look at" },
    save_dir = { "folder", default = "./massactivation_outputs", help = "where results go" },
    seed = { "integer", default = 42, help = "of whatever is drawn at random" },
    data = { "texts", default = { default .. "text.txt" }, help = "evaluation texts: files (.txt, .jsonl, also .gz, .zst) or wikitext, c4, pg19, redpajama" },
    calibration_data = { "texts", default = { default .. "calibration.txt" }, help = "texts to find massive activations in, as --data" },
    data_dir = { "folder", help = "where the paper's names (wikitext ...) are looked for; default: $MASSACT_DATA, else ./data" },
    field = { "string", default = "text", help = "what holds the text in a line of a .jsonl file" },
    windows = { "integer", default = 0, help = "evaluation windows a text; 0: all" },
    calibration_windows = { "integer", default = 10, help = "calibration windows; 0: all" },
    format = { "choice", default = "png", choices = { "png", "svg", "pdf" }, help = "of pictures" },
    redraw = { "string", help = "a results.json: draw its pictures again, without the model" },
  }
  for name, option in pairs(extra or {}) do options[name] = option end
  return options
end

local function spelled(flag) return flag and "True" or "False" end

---The paper's folder: MODEL/MODEL_{module}_{layer_path}_{attn_path}_{context}_{bos}_{logits}_{seed} under save_dir.
---@param name string the model's
---@param opt table
---@return string
function M.folder(name, opt)
  return ("%s/%s/%s_%s_%s_%s_%d_%s_%s_%d"):format(opt.save_dir, name, name, opt.module_name, opt.layer_path, opt.attn_path,
    opt.context_length, spelled(opt.add_bos_token), spelled(opt.show_logits), opt.seed)
end

---The paper's config.txt.
---@param name string the model's
---@param opt table
---@return string
function M.config(name, opt)
  return table.concat({
    "Model: " .. name, "Model Path: " .. opt.pretrained, "Module Name: " .. opt.module_name,
    "Layer Path: " .. opt.layer_path, "Attention Path: " .. opt.attn_path, "Context Length: " .. opt.context_length,
    "Add BOS Token: " .. spelled(opt.add_bos_token), "Show Logits: " .. spelled(opt.show_logits), "Seed: " .. opt.seed, "",
  }, "\n")
end

---A list as Python prints it.
---@param values any[]
---@return string
function M.list(values) return "[" .. table.concat(values, ", ") .. "]" end

---A perplexity as it is said; infinities and NaN are null in saved results.
---@param value any
---@return string
function M.perplexity(value) return type(value) == "number" and ("perplexity %.4g"):format(value) or "perplexity is not a number" end

---A quoted list of texts, a line each text stays in.
---@param texts string[]
---@return string
function M.quoted(texts)
  local out = {}
  for i, text in ipairs(texts) do out[i] = "'" .. token_text.escaped((text:gsub("\\", "\\\\"))) .. "'" end
  return M.list(out)
end

return M
