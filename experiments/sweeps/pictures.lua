-- Every experiment's pictures of one model.
--
--   massact sweep experiments/sweeps/pictures.lua --set model=MODEL --set data=TEXT --set calibration=TEXT [--set context=512]
--     [--set format=svg] [--set sentence="..."] [--set bos=false]
--
-- Without a model it draws those of the embedded one.
local set = ...

-- What one window or sentence shows needs no more; what is averaged has a few windows.
local some = { windows = 2, calibration_windows = 4 }

local function case(experiment, options)
  local all = { name = experiment, experiment = experiment }
  for key, value in pairs(some) do all[key] = value end
  for key, value in pairs(options or {}) do all[key] = value end
  return all
end

return {
  fixed = { pretrained = set.model, data = set.data, calibration_data = set.calibration or set.data, context_length = set.context or 256,
    format = set.format, sentence = set.sentence, add_bos_token = set.bos, dtype = set.dtype },
  cases = {
    case "existence", case "tokens", case("intervention", { mean_windows = 4 }), case "top_activation", case "self_attention",
    case "tokenwise", case "attention_decomposition", case "attention_trajectory", case "layernorm", case "mlp", case "qkv",
    case "sink_rate", case "super_weights", case "kurtosis", case "logit_lens", case "patching", case "quantisation", case "overflow",
    case "perplexity",
  },
  results = { "model", "dtype", "massact" },
}
