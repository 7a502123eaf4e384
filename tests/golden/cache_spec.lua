-- Passes with a key/value cache give what one pass over all tokens gives, for every family; generating uses it.
package.path = os.getenv "MASSACT_TESTS" .. "/golden/?.lua;" .. package.path
local massact = require "massact"
local golden = require "compare"

for _, folder in ipairs(golden.folders()) do
  it("a cache does not change what golden model " .. folder.name .. " gives", function()
    local model = massact.load(folder.path)
    local ids = massact.safetensors.load(folder.path .. "/expected.safetensors")["short.input_ids"]
    local whole = model:forward(ids, { logits = true }).logits[0]
    local cache <close> = model:cache(ids:size(0))
    local at = 0
    for _, n in ipairs { 3, 1, 1, 2 } do
      local logits = model:forward(ids:narrow(0, at, n), { logits = true, cache = cache }).logits[0]
      assert(golden.relative_error(logits, whole:narrow(0, at, n)) <= 2e-5, ("tokens %d to %d"):format(at, at + n - 1))
      at = at + n
      assert.equal(at, #cache)
    end
    assert.has_error(function() model:forward({ 1 }, { cache = cache }) end)
    cache:rewind(4)
    local again = model:forward(ids:narrow(0, 4, 3), { logits = true, cache = cache }).logits[0]
    assert(golden.relative_error(again, whole:narrow(0, 4, 3)) <= 2e-5)
  end)
end

describe("a cache", function()
  local path = massact.home .. "/experiments/default/model"
  local model = massact.load(path)

  it("says what is wrong with its use", function()
    local cache = model:cache(4)
    local function fails(pattern, work)
      local fine, problem = pcall(work)
      assert.is_false(fine)
      assert.matches(pattern, tostring(problem))
    end
    fails("holds 1 sequences of 4 tokens; 1 of 5 do not fit", function() model:forward({ 1, 2, 3, 4, 5 }, { cache = cache }) end)
    fails("made by another model", function() massact.load(path):forward({ 1 }, { cache = cache }) end)
    fails("rewind%(9%): the cache holds 0 tokens", function() cache:rewind(9) end)
    fails("holds 1 token or more, not 0", function() model:cache(0) end)
    local hook = model:point("layers.0.out"):hook(function() model:forward({ 1 }, { cache = cache }) end)
    fails("in use by a pass", function() model:forward({ 1 }, { cache = cache }) end)
    hook:remove()
    hook = model:point("layers.0.out"):hook(function() cache:close() end)
    fails("cannot be closed during its own pass", function() model:forward({ 1 }, { cache = cache }) end)
    hook:remove()
    model:forward({ 1 }, { cache = cache })
    assert.equal(1, #cache)
    cache:close()
    fails("has been closed", function() model:forward({ 1 }, { cache = cache }) end)
  end)

  it("generates the likeliest text, as passes without it would, and draws the same text for the same seed", function()
    local tokenizer = model.tokenizer
    local ids = tokenizer:encode "Once upon a time"
    table.insert(ids, 1, tokenizer.bos)
    local made = model:generate(ids, { max_tokens = 20 })
    local expected = table.move(ids, 1, #ids, 1, {})
    for i = 1, #made do
      local logits = model:forward(expected, { logits = true }).logits
      local best = logits[0][#expected - 1]:argmax():item()
      assert.equal(best, made[i])
      expected[#expected + 1] = best
    end
    assert.equal(20, #made)
    local drawn = { temperature = 1, top_k = 20, seed = 3, max_tokens = 30 }
    assert.same(model:generate(ids, drawn), model:generate(ids, drawn))
    assert.has_error(function()
      local long = {}
      for i = 1, model.max_positions do long[i] = 1 end
      model:generate(long)
    end)
  end)
end)
