-- The journal of an unfinished run: what was kept is not computed again, unless something else made it.
local journal = require "massact.journal"
local massact = require "massact"

describe("a journal", function()
  local path = os.tmpname()
  after_each(function() os.remove(path) end)

  local function squares(j, n)
    local computed, results = 0, {}
    for i = 1, n do
      results[i] = j:step("square " .. i, function()
        computed = computed + 1
        return { value = i * i, half = i / 2, list = { i, "a\nb" } }
      end)
    end
    return computed, results
  end

  it("keeps steps for whoever opens it with the same options", function()
    local computed, first = squares(journal.open(path, { seed = 1 }), 3)
    assert.equal(3, computed)
    local j = journal.open(path, { seed = 1 })
    local again, second = squares(j, 5)
    assert.equal(2, again)
    assert.equal(3, j.n_resumed)
    for i = 1, 3 do
      assert.equal(first[i].value, second[i].value)
      assert.equal(math.type(first[i].value), math.type(second[i].value))
      assert.equal(first[i].half, second[i].half)
      assert.equal("a\nb", second[i].list[2])
    end
    assert.equal(5, (squares(journal.open(path, { seed = 2 }), 5)))
  end)

  it("does not trip over a last line that is cut short", function()
    squares(journal.open(path, { seed = 1 }), 3)
    local file = assert(io.open(path, "rb"))
    local text = file:read "a"
    file:close()
    for cut = 1, 60 do
      massact.system.write(path, text:sub(1, -1 - cut))
      local computed = squares(journal.open(path, { seed = 1 }), 3)
      assert(computed == (cut == 1 and 0 or 1) or computed == 1, computed)
    end
  end)

  it("does not keep what JSON cannot hold, and leaves no file when the run is complete", function()
    local j = journal.open(path, {})
    j:step("infinite", function() return { loss = math.huge } end)
    local result = journal.open(path, {}):step("infinite", function() return { loss = 7 } end)
    assert.equal(7, result.loss)
    j:finish()
    assert.is_false(massact.system.exists(path))
  end)
end)
