-- The paper's central experiment on a real model (SmolLM2-135M, Q4_1): the numbers that the paper's own algorithm gives in
-- PyTorch.  Takes minutes and needs the folder that MASSACT_SHARED names.
local massact = require "massact"
local shared, bin = os.getenv "MASSACT_SHARED", os.getenv "MASSACT_BIN"
if not shared or not massact.system.exists(shared .. "/reference/smollm2/smollm2.json") then
  print "skipped: everything (MASSACT_SHARED names no folder with reference/smollm2)"
  os.exit(0, true)
end
local reference = massact.json.load(shared .. "/reference/smollm2/smollm2.json")

local function plain(list) return table.move(list, 1, #list, 1, {}) end

local function near(expected, got, tolerance, what)
  local e = math.abs(got - expected) / math.abs(expected)
  assert(e <= tolerance, ("%s: %g instead of %g"):format(what, got, expected))
end

for _, bos in ipairs { "bos", "no_bos" } do
  describe("intervention on SmolLM2, " .. bos, function()
    local expected = reference[bos]
    local folder = os.tmpname()
    os.remove(folder)
    massact.system.make_folder(folder)
    local command = ("%s run %s/experiments/intervention.lua --pretrained %s/models/SmolLM2-135M-Instruct.Q4_1.gguf "
      .. "--data %s/data/wikitext-2-raw-test.txt --calibration_data %s/data/tinyshakespeare.txt --context_length 512 "
      .. "--windows 32 --calibration_windows 16 --mean_windows 32 --add_bos_token %s --save_dir %s >/dev/null"):format(
      bin, massact.home, shared, shared, shared, tostring(bos == "bos"), folder)
    assert(os.execute(command))
    local name = "SmolLM2-135M-Instruct.Q4_1"
    local r = massact.json.load(("%s/%s/%s_layer_model.layers_self_attn_512_%s_True_42/results.json"):format(
      folder, name, name, bos == "bos" and "True" or "False"))
    os.execute("rm -r " .. folder)

    it("finds the same first layer, dims, positions and tokens", function()
      assert.equal(expected.tokens.first_layer, r.first_layer)
      assert.same(plain(expected.tokens.dims), plain(r.dims))
      for i, positions in ipairs(expected.test_positions.positions_first_4_windows) do
        assert.same(plain(positions), plain(r.positions["wikitext-2-raw-test"][i]))
      end
      local starting, others = 0, 0
      for _, positions in ipairs(r.positions["wikitext-2-raw-test"]) do
        local first = positions[1] == 0
        starting = starting + (first and 1 or 0)
        others = others + ((#positions > (first and 1 or 0)) and 1 or 0)
      end
      assert.equal(expected.test_positions.windows_with_starting, starting)
      assert.equal(expected.test_positions.windows_with_nonstarting, others)
      for position, tokens in pairs(expected.tokens.unique_tokens) do
        local got = plain(r.tokens[position])
        table.sort(got)
        local want = plain(tokens)
        table.sort(want)
        assert.same(want, got)
      end
    end)

    it("finds magnitudes and means within 0.1 %", function()
      for position, dims in pairs(expected.tokens.magnitude_at_first_layer) do
        for dim, m in pairs(dims) do
          near(m.avg, r.magnitude_at_first_layer[position][dim].avg, 1e-3, "magnitude")
          assert.equal(m.n, r.magnitude_at_first_layer[position][dim].n)
        end
      end
      for layer, kinds in pairs(expected.means) do
        for kind, dims in pairs(kinds) do
          for dim, mean in pairs(dims) do near(mean, r.means[layer][kind][dim], 1e-3, "mean") end
        end
      end
    end)

    it("has every perplexity within 0.2 %", function()
      for key, perplexity in pairs(expected.perplexity) do
        near(perplexity, r.perplexity[key]["wikitext-2-raw-test"], 2e-3, key)
      end
      for i, loss in ipairs(expected.loss_per_window_zero) do
        near(loss, r.losses["wikitext-2-raw-test"].set_to_zero[i], 2e-3, "loss of window " .. i)
      end
      assert(r.peak_memory_bytes < 1e9, "peak memory")
    end)
  end)
end
