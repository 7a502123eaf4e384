-- Mistral (Jiang et al. 2023): llama, where every layer may have a sliding window.
local families = require "massact.family"

return families.family {
  name = "mistral", like = "llama",
  architectures = { "MistralForCausalLM" },
  model_types = { "mistral" },
  defaults = { sliding_window = 4096 },
  spec = function(config)
    return { windows = families.windows(config, function() return config.sliding_window ~= nil end) }
  end,
  gguf = {
    architecture = "llama", turns_neighbours = true,
    accepts = function(c)
      return (c:maybe("integer", "attention.sliding_window") or 0) > 0 and (c:maybe("integer", "expert_count") or 0) == 0
    end,
  },
}
