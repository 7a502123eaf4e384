-- A variant: the mitigations that a model is trained under, and the model itself.
local massact = require "massact"
local mitigations = require "massact.mitigation"
local options = require "massact.options"

local M = {}

---The six of Owen et al. 2025, section 5.
M.of_paper = { "none", "kv_bias", "dyt", "tvr", "kv_bias+tvr", "dyt+tvr" }

---The mitigations that a word names: "kv_bias+tvr" (or with commas); "none" and "baseline" are none.
---@param text string|string[]
---@param option? string that says it, for messages
---@return string[] names sorted, each once
function M.mitigations(text, option)
  local words, names, seen = type(text) == "table" and table.concat(text, ",") or text, {}, {}
  for name in words:gmatch "[^,+%s]+" do
    if name ~= "none" and name ~= "baseline" and not seen[name] then
      local known, problem = pcall(mitigations.named, name)
      if not known then options.usage_error("--%s: %s", option or "mitigations", problem) end
      names[#names + 1], seen[name] = name, true
    end
  end
  table.sort(names)
  return names
end

---What a variant is called: "baseline", "kv_bias+tvr".
---@param names string[]
---@return string
function M.name(names) return #names > 0 and table.concat(names, "+") or "baseline" end

-- ---- settings ----

local function contains(list, name)
  for _, each in ipairs(list) do if each == name then return true end end
  return false
end

-- The paper's standard deviations are for its widths: LLaMA's 2048, GPT-2's 768.  What keeps a layer's gain with fewer inputs grows as
-- one over the root of their number; DyT, which does not normalise, does not train with less.
local function beside_width(opt, std) return std * math.sqrt((opt.family == "llama" and 2048 or 768) / opt.width) end

local function init_std(opt, names)
  return opt.init_std or beside_width(opt, opt.family == "llama" and not contains(names, "dyt") and 0.006 or 0.02)
end

local function tvr_target(opt, names) return opt.tvr_target or beside_width(opt, contains(names, "dyt") and 0.02 or 0.01) end

local settings = {
  tvr = function(opt, names) return { every = opt.tvr_every, target = tvr_target(opt, names) } end,
  dyt = function() return { alpha = { attention = 1, other = 0.5, final = 0.5 } } end, -- LLaMA-1B's
}

-- What massact.create takes: the variant's mitigations, and how all variants begin.
local function chosen(opt, names)
  local all = {}
  for _, name in ipairs(M.mitigations(opt.init, "init")) do all[name] = {} end
  for _, name in ipairs(names) do all[name] = settings[name] and settings[name](opt, names) or {} end
  return all
end

-- ---- the model ----

local config = {}

function config.llama(opt, tokenizer)
  return { architectures = { "LlamaForCausalLM" }, model_type = "llama", hidden_size = opt.width, intermediate_size = opt.ffn,
    num_hidden_layers = opt.layers, num_attention_heads = opt.heads, num_key_value_heads = opt.heads, head_dim = opt.head_dim, max_position_embeddings = opt.context,
    vocab_size = tokenizer:size(), rms_norm_eps = 1e-5, tie_word_embeddings = opt.tie, hidden_act = "silu", torch_dtype = "float32",
    bos_token_id = tokenizer.bos, eos_token_id = tokenizer.eos }
end

function config.gpt2(opt, tokenizer)
  return { architectures = { "GPT2LMHeadModel" }, model_type = "gpt2", n_embd = opt.width, n_inner = opt.ffn, n_layer = opt.layers,
    n_head = opt.heads, n_positions = opt.context, n_ctx = opt.context, vocab_size = tokenizer:size(), layer_norm_epsilon = 1e-5,
    activation_function = "gelu_new", torch_dtype = "float32", bos_token_id = tokenizer.bos, eos_token_id = tokenizer.eos }
end

---A new model of the options' size, with the variant's mitigations.
---@param opt table
---@param names string[]
---@param tokenizer massact.Tokenizer
---@param path string of the tokenizer
---@return massact.Model
function M.model(opt, names, tokenizer, path)
  return massact.create(config[opt.family](opt, tokenizer), { seed = opt.seed, std = init_std(opt, names), mitigations = chosen(opt, names), tokenizer = path,
    name = ("%s-%s-%d"):format(opt.family, M.name(names), opt.seed) })
end

return M
