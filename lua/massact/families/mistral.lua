-- Mistral (Jiang et al. 2023): llama, where every layer may have a sliding window.
local families = require "massact.family"

return families.family {
  name = "mistral", like = "llama",
  architectures = { "MistralForCausalLM" },
  model_types = { "mistral" },
  spec = function(config)
    return { windows = families.windows(config, function() return config.sliding_window ~= nil end) }
  end,
}
