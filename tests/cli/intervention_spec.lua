-- The main experiment from outside, on the embedded default model.
package.path = os.getenv "MASSACT_TESTS" .. "/cli/?.lua;" .. package.path
local massact = require "massact"
local shell = require "shell"
local bin, write = shell.bin, shell.spit
local experiment = massact.home .. "/experiments/intervention.lua"

local function run(options)
  local status, _, complained = shell.massact(("run %s %s"):format(experiment, options))
  return status, complained
end

describe("experiments/intervention.lua", function()
  local folder = shell.folder()
  teardown(function() os.execute("rm -r " .. folder) end)

  it("shows on the default model that the planted activation matters", function()
    assert.same({ 0, "" }, { run("--save_dir " .. folder) })
    local base = folder .. "/model/model_layer_model.layers_self_attn_256_True_True_42/"
    local results = massact.json.load(base .. "results.json")
    assert.equal(1, results.first_layer)
    assert.same({ 9 }, { table.unpack(results.dims) })
    local p = results.perplexity
    assert(p.set_to_zero.text > 2 * p.original.text)
    assert.near(1, p.set_to_mean_1.text / p.original.text, 0.01)
    assert.equal(results.windows.text, #results.positions.text)
    for _, positions in ipairs(results.positions.text) do assert.same({ 0 }, { table.unpack(positions) }) end
    for _, file in ipairs { "config.txt", "perplexity.png", "magnitude_by_layer.png",
      "verify_massive_activations_location_and_magnitude_and_tokens.txt", "intervention_analysis/results_ppl.txt",
      "intervention_analysis/set_to_zero_ppl/text_startingtoken.txt" } do
      assert.is_true(massact.system.exists(base .. file), file)
    end
    local png = assert(io.open(base .. "perplexity.png", "rb"))
    local head = png:read(24)
    png:close()
    assert.equal("\137PNG\r\n\26\n", head:sub(1, 8))
    assert.equal(1600, (string.unpack(">I4", head, 17)))
    assert.equal(1000, (string.unpack(">I4", head, 21)))
  end)

  it("gives the same bytes again, but for times", function()
    local function results()
      assert.equal(0, (run("--windows 3 --save_dir " .. folder)))
      local text, n = shell.slurp(folder .. "/model/model_layer_model.layers_self_attn_256_True_True_42/results.json"):gsub('"timings": %b{}', "")
      assert.equal(1, n)
      return text
    end
    assert.equal(results(), results())
  end)

  it("killed at any moment, goes on where it was and ends with the same results", function()
    local base = folder .. "/model/model_layer_model.layers_self_attn_128_True_True_42/"
    local function results()
      local r = massact.json.load(base .. "results.json")
      r.timings = nil
      return massact.json.text(r)
    end
    local options, began = "--context_length 128 --save_dir " .. folder, massact.system.clock()
    assert.equal(0, (run(options)))
    local took, whole, resumed = massact.system.clock() - began, results(), 0
    for i = 1, 9 do
      os.remove(base .. "results.json")
      os.execute(("timeout -s KILL %g %s run %s %s >/dev/null 2>&1"):format(took * i / 10, bin, experiment, options))
      local left = io.open(base .. "intervention.unfinished.jsonl")
      if left then
        local lines = 0
        for _ in left:lines() do lines = lines + 1 end
        left:close()
        resumed = math.max(resumed, lines - 1)
      end
    end
    assert.equal(0, (run(options)))
    assert.equal(whole, results())
    assert.is_false(massact.system.exists(base .. "intervention.unfinished.jsonl"))
    assert(resumed > 0, "nothing was ever kept")
  end)

  it("looks at modules inside the layer, and edits there", function()
    assert.equal(0, (run("--module_name mlp --windows 4 --save_dir " .. folder)))
    local r = massact.json.load(folder .. "/model/model_mlp_model.layers_self_attn_256_True_True_42/results.json")
    assert.equal(1, r.first_layer)
    assert(r.perplexity.set_to_zero.text > 2 * r.perplexity.original.text)
  end)

  it("says so where there are no massive activations, and stops cleanly", function()
    assert.equal(0, (run(("--pretrained %s --add_bos_token false --context_length 64 --save_dir %s"):format(
      massact.home .. "/experiments/default/model", folder))))
    local r = massact.json.load(folder .. "/model/model_layer_model.layers_self_attn_64_False_True_42/results.json")
    assert.equal(massact.null, r.first_layer)
    assert.equal(r.perplexity.original.text, r.perplexity.set_to_zero.text)
  end)

  it("computes in the dtype that is asked for, and records it", function()
    assert.equal(0, (run("--windows 2 --dtype torch.bfloat16 --save_dir " .. folder)))
    local r = massact.json.load(folder .. "/model/model_layer_model.layers_self_attn_256_True_True_42/results.json")
    assert.equal("bf16", r.dtype)
    assert.equal("bf16", r.options.dtype)
    assert.equal(0, r.windows_overflowed.text)
    -- 8 bits: magnitudes between 512 and 1024 are multiples of 4.
    for _, dims in pairs(r.magnitude_at_first_layer) do
      for _, m in pairs(dims) do assert(m.std > 0 or m.avg % 4 == 0, m.avg) end
    end
  end)

  it("says that f16 overflows", function()
    local model = folder .. "/overflowing"
    assert(os.execute(("cp -r %s/experiments/default/model %s"):format(massact.home, model)))
    local weights = massact.safetensors.load(model .. "/model.safetensors")
    local down = "model.layers.1.mlp.down_proj.weight"
    weights[down] = weights[down] * 200 -- the planted 900 exceeds 65504
    massact.safetensors.save(model .. "/model.safetensors", weights)
    local out = folder .. "/overflow.txt"
    local options = ("--pretrained %s --windows 2 --dtype half --save_dir %s"):format(model, folder)
    assert(os.execute(("%s run %s %s >%s"):format(bin, experiment, options, out)))
    local file = assert(io.open(out))
    local text = file:read "a"
    file:close()
    assert.matches("2 of the windows leave the range of f16 %(65504%) from layer 1 on", text)
    local r = massact.json.load(folder .. "/overflowing/overflowing_layer_model.layers_self_attn_256_True_True_42/results.json")
    assert.equal(2, r.windows_overflowed.text)
    assert.equal(massact.null, r.perplexity.original.text)
    assert(r.perplexity.set_to_zero.text > 1)
  end)

  it("answers mistakes with one clear line", function()
    write(folder .. "/empty.txt", "")
    write(folder .. "/latin.txt", ("caf\xE9 "):rep(1000))
    write(folder .. "/short.txt", "too short")
    local cases = {
      { "--windoes 3", 2, "unknown option '%-%-windoes'; did you mean '%-%-windows'" },
      { "--windows many", 2, "'many' is not a whole number" },
      { "--context_length 5000", 2, "5000 is more than the 256 positions" },
      { "--data " .. folder .. "/none.txt", 1, "cannot read text" },
      { "--data " .. folder .. "/empty.txt", 1, "is empty" },
      { "--data " .. folder .. "/latin.txt", 1, "not UTF%-8: byte 0xE9 at offset 3" },
      { "--data " .. folder .. "/short.txt", 1, "has 9 tokens, fewer than one window of 256" },
      { "--save_dir /proc/nowhere", 1, "cannot create folder '/proc/nowhere'" },
      { "--module_name nonsense", 2, "%-%-module_name nonsense: family llama has no such module" },
      { "--module_name attn.probs", 2, "only what has one vector a token" },
      { "--layer_path transformer.h", 2, "the layers of family llama are at model.layers" },
      { "--dtype f64", 2, "no dtype 'f64'; there are f32 %(float32%), bf16 %(bfloat16%) and f16 %(float16, half%)" },
      { "--device cuda:99", 1, "%-%-device cuda:99: .*use %-%-device cpu" },
    }
    for _, case in ipairs(cases) do
      local code, err = run(case[1] .. (case[1]:match "save_dir" and "" or " --save_dir " .. folder))
      assert.equal(case[2], code, case[1])
      assert.matches(case[3], err)
      assert.matches("^massact: [^\n]*\n$", err)
    end
  end)
end)
