-- Gemma 3 as its larger checkpoints are published: the text part nested in config.json, its tensors behind a prefix,
-- a vision tower beside it.  Made from the golden text model, whose logits it must give.
local massact = require "massact"
local golden = os.getenv "MASSACT_TESTS" .. "/golden/models/gemma-3"

-- What transformers 4 and 5 call the text model's tensors.
local namings = {
  ["language_model.model."] = function(name) return "language_model." .. name end,
  ["model.language_model."] = function(name) return (name:gsub("^model%.", "model.language_model.")) end,
}

describe("a multimodal Gemma 3", function()
  local config = massact.json.load(golden .. "/config.json")
  local tensors, expected = massact.safetensors.load(golden .. "/model.safetensors"), massact.safetensors.load(golden .. "/expected.safetensors")
  local logits = massact.load(golden):forward(expected["short.input_ids"], { logits = true }).logits

  for prefix, rename in pairs(namings) do
    it("is its text model, with tensors named " .. prefix, function()
      local folder = os.tmpname()
      os.remove(folder)
      massact.system.make_folder(folder)
      local nested, renamed = {}, { ["vision_tower.patch.weight"] = massact.zeros(2, 2), ["multi_modal_projector.mm_input_projection_weight"] = massact.zeros(2) }
      for key, value in pairs(config) do if key ~= "architectures" then nested[key] = value end end
      for name, tensor in pairs(tensors) do renamed[rename(name)] = tensor end
      massact.safetensors.save(folder .. "/model.safetensors", renamed)
      massact.json.save(folder .. "/config.json", { architectures = { "Gemma3ForConditionalGeneration" }, model_type = "gemma3",
        text_config = nested, vision_config = { hidden_size = 2 }, image_token_index = 300 })
      local model = massact.load(folder)
      assert.equal("gemma3", model.family)
      assert.is_true(model:forward(expected["short.input_ids"], { logits = true }).logits == logits)
      assert.equal("layers.1.mlp.proj", model:point("model.layers.1.mlp"):names()[1])
      os.execute("rm -r " .. folder)
    end)
  end
end)

-- The published 4B config leaves out what is its class's default (Gemma3TextConfig).
describe("a Gemma 3 config that says little", function()
  it("has the defaults of transformers", function()
    local families = require "massact.family"
    local gemma3 = families.of_config({ architectures = { "Gemma3ForCausalLM" } }, "test")
    local spec = gemma3.spec((families.recording({
      hidden_size = 2560, intermediate_size = 10240, num_hidden_layers = 34, sliding_window = 1024,
      rope_scaling = { factor = 8.0, rope_type = "linear" },
    }, gemma3)))
    assert.equal(8, spec.n_heads)
    assert.equal(4, spec.n_kv_heads)
    assert.equal(256, spec.d_head)
    assert.equal(262208, spec.vocab_size)
    assert.equal(131072, spec.max_positions)
    assert.equal(1 / 16, spec.attn_scale)
    assert.same({ 1024, 1024, 1024, 1024, 1024, 0 }, table.move(spec.windows, 1, 6, 1, {}))
  end)
end)
