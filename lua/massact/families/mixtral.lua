-- Mixtral (Jiang et al. 2024): mistral, with eight MLPs a layer of which a router picks two for each token.
local families = require "massact.family"

return families.family {
  name = "mixtral", like = "llama",
  architectures = { "MixtralForCausalLM" },
  model_types = { "mixtral" },
  unused = { "output_router_logits", "router_aux_loss_coef", "router_jitter_noise" },
  defaults = { num_local_experts = 8, num_experts_per_tok = 2, rope_theta = 1000000 },
  spec = function(config)
    return {
      n_experts = config.num_local_experts, n_experts_used = config.num_experts_per_tok,
      windows = families.windows(config, function() return config.sliding_window ~= nil end),
    }
  end,
  weights = function()
    return {
      ["layers.*.mlp.gate.weight"] = false, ["layers.*.mlp.up.weight"] = false, ["layers.*.mlp.proj.weight"] = false,
      ["layers.*.mlp.router.weight"] = "model.layers.*.block_sparse_moe.gate.weight",
      ["layers.*.mlp.experts.#.gate.weight"] = "model.layers.*.block_sparse_moe.experts.#.w1.weight",
      ["layers.*.mlp.experts.#.proj.weight"] = "model.layers.*.block_sparse_moe.experts.#.w2.weight",
      ["layers.*.mlp.experts.#.up.weight"] = "model.layers.*.block_sparse_moe.experts.#.w3.weight",
    }
  end,
  paths = { ["model.layers.*.mlp"] = false, ["model.layers.*.block_sparse_moe"] = "layers.*.mlp.proj" },
  gguf = {
    architecture = "llama", turns_neighbours = true,
    accepts = function(c) return (c:maybe("integer", "expert_count") or 0) > 0 end,
  },
}
