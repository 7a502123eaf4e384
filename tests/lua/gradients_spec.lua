-- Gradients of every operation against finite differences: one table of cases, each taken with inputs that lie as they are and
-- with inputs that are views (transposed, cut out).  Then the rules of the tape itself.
local massact = require "massact"

-- ---- numbers ----

local state = 7
local function uniform(low, high)
  state = (state * 1103515245 + 12345) % 2 ^ 31
  return low + (high - low) * state / 2 ^ 31
end

local function count(shape)
  local n = 1
  for _, size in ipairs(shape) do n = n * size end
  return n
end

local function filled(shape, low, high)
  local values = {}
  for i = 1, count(shape) do values[i] = uniform(low, high) end
  return massact.tensor(values):reshape(shape)
end

local function flat(t)
  if t:dim() == 0 then return { t:item() } end
  return t:clone():reshape(-1):totable()
end

-- ---- how an input lies in memory: (values) -> what requires the gradient, the view that the operation gets ----

local function reversed(t)
  local order = {}
  for i = 1, t:dim() do order[i] = t:dim() - i end
  return t:permute(order)
end

local layouts = {
  plain = function(values) return values:clone(), function(leaf) return leaf end end,
  turned = function(values) return reversed(values):clone(), reversed end,
  cut = function(values)
    if values:dim() == 0 then return values:clone(), function(leaf) return leaf end end
    local n = values:size(0)
    return massact.cat { massact.ones(values:shape()), values }, function(leaf) return leaf:narrow(0, n, n) end
  end,
}

-- ---- the check ----

-- The sum of all outputs, each times a weight of its own, in f64; and as a tensor.
local function weighted(outputs, weights)
  local sum = 0
  for i, out in ipairs(outputs) do
    local values, w = flat(out), flat(weights[i])
    for e = 1, #values do if w[e] ~= 0 then sum = sum + values[e] * w[e] end end
  end
  return sum
end

local function weighted_tensor(outputs, weights)
  local sum
  for i, out in ipairs(outputs) do
    local part = weights[i]:ne(0):where(out, 0):mul(weights[i]):sum() -- outputs may be -inf where their weight is 0
    sum = sum and sum + part or part
  end
  return sum
end

local function outputs_of(case, views)
  local outputs = { case.f(table.unpack(views)) }
  for i = #outputs, 1, -1 do if outputs[i]:dtype() ~= "f32" then table.remove(outputs, i) end end
  return outputs
end

-- Largest difference between gradient and finite differences, over the largest magnitude of these.
local function errors(case, layout, h)
  local leaves, views = {}, {}
  for i, input in ipairs(case.inputs) do
    local view
    if input.shape then
      leaves[i], view = layouts[layout](filled(input.shape, input.low or -2, input.high or 2))
      leaves[i]:requires_grad(true)
    end
    views[i] = view and view(leaves[i]) or input
  end
  local outputs, weights = outputs_of(case, views), {}
  for i, out in ipairs(outputs) do
    weights[i] = filled(out:shape(), 0.5, 1.5)
    if case.visible then weights[i]:mul_(case.visible(out)) end
  end
  weighted_tensor(outputs, weights):backward()
  local worst = 0
  local _ <close> = massact.no_grad()
  for _, leaf in pairs(leaves) do
    local got, largest, difference = flat(leaf.grad), 0, 0
    local elements = leaf:reshape(-1)
    for e = 0, leaf:size() - 1 do
      local x = elements:get(e)
      local function at(step)
        elements:set(e, x + step)
        return weighted(outputs_of(case, views), weights)
      end
      local slope = (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h)
      elements:set(e, x)
      largest = math.max(largest, math.abs(slope))
      difference = math.max(difference, math.abs(slope - got[e + 1]))
    end
    worst = math.max(worst, difference / math.max(largest, 0.1))
  end
  return worst
end

local function input(shape, low, high) return { shape = shape, low = low, high = high } end

-- ---- the cases ----

local cases = {}
local function case(name, inputs, f, more)
  local c = { name = name, inputs = inputs, f = f }
  for key, value in pairs(more or {}) do c[key] = value end
  cases[#cases + 1] = c
end

local positive = { log = true, sqrt = true, rsqrt = true, reciprocal = true }
for _, name in ipairs { "neg", "exp", "log", "sqrt", "rsqrt", "square", "reciprocal", "sin", "cos", "tanh", "sigmoid", "silu", "gelu",
  "gelu_tanh" } do
  case(name, { input({ 2, 3 }, positive[name] and 0.7 or -2, 2) }, function(a) return a[name](a) end)
end
for _, name in ipairs { "abs", "relu" } do
  case(name, { input({ 2, 3 }, 0.5, 2), input({ 2, 3 }, -2, -0.5) }, function(a, b) return a[name](a), b[name](b) end)
end
for _, name in ipairs { "sign", "floor", "ceil", "round" } do -- steps: 0 between them
  case(name, { input({ 2, 3 }, 1.1, 1.3) }, function(a) return a[name](a) + a * 0.1 end)
end

for _, name in ipairs { "add", "sub", "mul", "div", "pow" } do
  local low = (name == "div" or name == "pow") and 0.7 or -2
  case(name, { input({ 2, 3 }, low), input({ 2, 3 }, low) }, function(a, b) return a[name](a, b) end)
  case(name .. " broadcast", { input({ 2, 1, 3 }, low), input({ 4, 1 }, low) }, function(a, b) return a[name](a, b) end)
  case(name .. " row", { input({ 2, 3, 2 }, low), input({ 2 }, low) }, function(a, b) return a[name](b, a) end)
  case(name .. " number", { input({ 2, 3 }, low) }, function(a) return a[name](a, 1.5), massact.tensor(1.5)[name](massact.tensor(1.5), a) end)
  case(name .. " itself", { input({ 2, 3 }, low) }, function(a) return a[name](a, a) end)
end
case("mod", { input({ 2, 2 }, 3.2, 3.6), input({ 2, 1 }, 1.2, 1.3) }, function(a, b) return a:mod(b) end)
for _, name in ipairs { "minimum", "maximum" } do
  case(name, { input({ 2, 3 }, -2, -0.2), input({ 3 }, 0.2, 2) }, function(a, b) return a[name](a, b) end)
end
case("where", { input { 2, 3 }, input { 3 } }, function(a, b)
  return massact.tensor({ { 1, 0, 1 }, { 0, 0, 1 } }, "u8"):where(a, b)
end)

local steps = massact.tensor { 1, 2, 3, 5, 8, 9, 4, 7, 5, 8, 3, 2 }:reshape(2, 3, 2) * 0.3
for _, name in ipairs { "sum", "mean", "prod", "var", "std", "norm" } do
  case(name, { input({ 2, 3, 2 }, 0.2, 0.4) }, function(a)
    a = a + steps
    return a[name](a), a[name](a, 0), a[name](a, 1, { keep = true }), a[name](a, -1)
  end)
end
case("prod of zeros", { input({ 2 }, 0.5, 2) }, function(a)
  return massact.cat({ a, massact.zeros(1) }):prod(), massact.cat({ a, massact.zeros(2) }):prod()
end)
local spread = massact.tensor { { 4, -1, 2 }, { 0, 3, 1 } }
for _, name in ipairs { "max", "min" } do
  case(name, { input({ 2, 3 }, 0, 0.2) }, function(a)
    a = a + spread
    return a[name](a), (a[name](a, 0)), (a[name](a, 1, { keep = true }))
  end)
end
case("median", { input({ 2, 3 }, 0, 0.2) }, function(a)
  a = a + spread
  return a:median(), a:median(1), a:median(0, { keep = true })
end)
case("quantile", { input({ 2, 3 }, 0, 0.2) }, function(a) return (a + spread):quantile(0.8), (a + spread):quantile(0.3, 1) end)
case("sort", { input({ 2, 3 }, 0, 0.2) }, function(a)
  return (a + spread):sort(), (a + spread):sort(0, { descending = true })
end)
case("topk", { input({ 2, 3 }, 0, 0.2) }, function(a) return (a + spread):topk(2) end)

case("gather", { input { 2, 3 } }, function(a)
  return a:gather(1, massact.tensor({ 2, 0, 2, 2 }, "i64")), a:gather(0, massact.tensor({ 1 }, "i32"))
end)
case("cat", { input { 2, 3 }, input { 2, 1 } }, function(a, b) return massact.cat({ a, b, a }, 1) end)
case("copy", { input { 2, 3 } }, function(a) return a:clone(), a:float(), a:to { dtype = "f32" } end)
case("matmul", { input { 2, 3 }, input { 3, 4 } }, function(a, b) return a:matmul(b) end)
case("matmul broadcast", { input { 2, 1, 2, 3 }, input { 2, 3, 2 } }, function(a, b) return a:matmul(b) end)
case("linear", { input { 2, 2, 3 }, input { 4, 3 }, input { 4 } }, function(x, w, b) return x:linear(w, b) end)
case("linear without bias", { input { 2, 3 }, input { 2, 2, 3 } }, function(x, w) return x:linear(w) end)

case("softmax", { input { 2, 4 } }, function(a) return a:softmax() end)
case("log_softmax", { input { 2, 4 } }, function(a) return a:log_softmax() end)
case("rms_norm", { input { 2, 2, 4 }, input { 4 } }, function(x, w) return x:rms_norm(w, 0.1), x:rms_norm() end)
case("layer_norm", { input { 2, 2, 4 }, input { 4 }, input { 4 } }, function(x, w, b) return x:layer_norm(w, b, 0.1), x:layer_norm() end)
case("dyt", { input { 2, 2, 4 }, input({ 1 }, 0.3, 0.8), input { 4 }, input { 4 } }, function(x, a, w, b)
  return x:dyt(a, w, b), x:dyt(a, w)
end)
for _, name in ipairs { "silu", "gelu", "gelu_tanh", "sigmoid", "square" } do
  case("gated " .. name, { input { 2, 3 }, input { 2, 3 } }, function(gate, up) return gate:gated(name, up) end)
end
case("rope", { input { 2, 3, 2, 6 } }, function(x)
  local angles = massact.tensor { { 0, 0 }, { 1, 0.3 }, { 2, 0.6 } }
  return x:rope(angles:cos(), angles:sin())
end)

local kinds = {
  plain = {}, ["with a cap"] = { softcap = 1.5 }, ["in a window"] = { window = 2 }, ["with alibi"] = { alibi = { 0.5, 0.25, 0.1, 0.7 } },
  ["with all"] = { scale = 0.7, softcap = 2, window = 3, alibi = { 0.5, 0.25, 0.1, 0.7 } },
}
for name, how in pairs(kinds) do
  local function with(key, value)
    local all = { extra_key = key, extra_value = value }
    for k, v in pairs(how) do all[k] = v end
    return all
  end
  local q, k, v, extra = input { 1, 4, 4, 2 }, input { 1, 4, 2, 2 }, input { 1, 4, 2, 2 }, input { 4, 2 }
  local function seen(scores) return scores:gt(-1e30):float() end
  case("attention " .. name, { q, k, v }, function(...) return (select(1, ...)):attention(select(2, ...), select(3, ...), how) end)
  case("attention_scores " .. name, { q, k }, function(a, b) return a:attention_scores(b, how) end, { visible = seen })
  if name ~= "with all" then
    case("attention with an extra key " .. name, { q, k, v, extra, extra }, function(a, b, c, key, value)
      return a:attention(b, c, with(key, value))
    end, { only_plain = true })
    case("attention_scores with an extra key " .. name, { q, k, extra }, function(a, b, key) return a:attention_scores(b, with(key)) end,
      { visible = seen, only_plain = true })
  end
end
case("attention of two sequences", { input { 2, 2, 2, 2 }, input { 2, 2, 2, 2 }, input { 2, 2, 2, 2 }, input { 2, 2 }, input { 2, 2 } },
  function(q, k, v, key, value) return q:attention(k, v), q:attention(k, v, { extra_key = key, extra_value = value }) end,
  { only_plain = true })
case("attention over a past", { input { 1, 2, 2, 3 }, input { 1, 4, 1, 3 }, input { 1, 4, 1, 3 } }, function(q, k, v) return q:attention(k, v) end)
case("attention_mix", { input { 2, 2, 3, 3 }, input { 2, 3, 1, 2 } }, function(p, v) return p:attention_mix(v) end)
case("attention_mix with an extra value", { input { 2, 2, 3, 4 }, input { 2, 3, 1, 2 }, input { 2, 2 } }, function(p, v, e)
  return p:attention_mix(v, { extra_value = e })
end, { only_plain = true })

local ids = massact.tensor({ { 2, 0, 2 }, { 1, 2, 0 } }, "i64")
case("embed", { input { 4, 3 } }, function(table) return table:embed(ids) end)
local targets = massact.tensor({ 3, -1, 0 }, "i64")
case("cross_entropy", { input { 3, 4 } }, function(logits) return logits:cross_entropy(targets) end)
case("linear_cross_entropy", { input { 3, 2 }, input { 4, 2 }, input { 4 } }, function(x, w, b)
  return x:linear_cross_entropy(w, targets, { bias = b, scale = 0.8, softcap = 3 }), x:linear_cross_entropy(w, targets)
end)
case("mean_cross_entropy", { input { 3, 2 }, input { 4, 2 }, input { 4 } }, function(x, w, b)
  return x:mean_cross_entropy(w, targets, { bias = b, scale = 0.8, softcap = 3 }), x:mean_cross_entropy(w, targets) * 3
end)
case("route", { input({ 2, 4 }, 0, 0.2) }, function(a) return (a + massact.tensor { 0, 1, -1, 2 }):route(2) end)
case("add_rows", { input { 3, 2 }, input { 4, 2 }, input { 4 } }, function(sum, x, scale)
  return sum:add_rows(x, massact.tensor({ 0, 2, 2, 1 }, "i64"), scale)
end)

-- Views and writes are no rows of ops.def, and have gradients all the same.
case("views", { input { 2, 3, 4 } }, function(a)
  return a:reshape(6, 4), a:transpose(0, 2), a:narrow(2, 1, 2), a:select(1, -1), a[1], a:permute { 2, 0, 1 }, a:unsqueeze(0), a:select(0, 0):t(),
    a:narrow(1, 0, 1):squeeze()
end)
case("expand", { input { 3, 1 } }, function(a) return a:expand(2, 3, 4), a:expand(2, 3, 4):sum(2) end)
case("writes", { input { 2, 3 }, input({ 2 }, 0.7), input { 3 } }, function(a, b, c)
  local y = a * 2
  y:select(1, 1):copy_(b)
  local z = y:exp()
  y:mul_(c):narrow(0, 1, 1):add_(1)
  y[0]:narrow(0, 2, 1):fill_(4)
  y:set(1, 2, 5)
  y:select(1, 0):div_(b)
  local buffer = massact.zeros(2, 3)
  buffer[0]:copy_(c)
  buffer[1]:copy_(a[0]):mul_(buffer[0])
  return y, z, buffer, y:sub(buffer):pow_(2)
end)
case("a long way", { input { 2 } }, function(a)
  local x = a
  for _ = 1, 300 do x = x * 0.999 + a * 0.001 end
  return x
end)

describe("gradient", function()
  for _, c in ipairs(cases) do
    for layout in pairs(layouts) do
      if layout == "plain" or not c.only_plain then
        it(("of %s, inputs %s"):format(c.name, layout), function()
          local err = errors(c, layout, c.h or 0.02)
          assert(err < 1e-3, ("off by %.2g"):format(err))
        end)
      end
    end
  end
end)

describe("no gradient", function()
  local a = massact.tensor { 1, 2, 3 }
  local w = massact.tensor({ 1, 2, 3 }):requires_grad(true)

  it("of what is not differentiable: named, when one goes back through it", function()
    assert.error_matches(function() w:quantize(0.1):sum():backward() end, "quantize has no gradient")
    assert.error_matches(function() massact.zeros(1, 1, 1, 2):rope(w:narrow(0, 0, 1):reshape(1, 1), w:narrow(0, 0, 1):reshape(1, 1)) end, "rope has no gradient")
    assert.is_false(w:argmax():requires_grad())
    assert.is_false(w:gt(1):requires_grad())
  end)

  it("without a tensor that requires one", function()
    assert.error_matches(function() a:sum():backward() end, "depends on nothing that requires a gradient")
    assert.is_nil(a.grad)
    assert.is_false((a * 2):requires_grad())
    assert.error_matches(function() massact.tensor({ 1 }, "i64"):requires_grad(true) end, "i64 has no gradient")
  end)

  it("through detach and within no_grad", function()
    assert.is_false((w:detach() * 2):requires_grad())
    assert.is_false(massact.no_grad(function() return w * 2 end):requires_grad())
    do
      local _ <close> = massact.no_grad()
      assert.is_false(w:mul(2):requires_grad())
      assert.is_false(massact.cat({ w, a }):requires_grad())
      massact.no_grad(function() end)
      assert.is_false(w:mul(2):requires_grad())
    end
    assert.is_true((w * 2):requires_grad())
    assert.is_false(pcall(massact.no_grad, error, "stop"))
    assert.is_true((w * 2):requires_grad())
    assert.same({ 2, 4, 6 }, (w:detach() + w):totable())
  end)
end)

describe("backward", function()
  it("of a mean loss is that of its losses, as often as it is gone through", function()
    local x, w = filled({ 70, 8 }, -1, 1):requires_grad(true), filled({ 300, 8 }, -1, 1):requires_grad(true)
    local of = {}
    for i = 1, 70 do of[i] = i % 5 == 0 and -1 or i * 3 end
    of = massact.tensor(of, "i64")
    local each = x:linear_cross_entropy(w, of)
    local mean = x:mean_cross_entropy(w, of)
    assert.near(each:sum():item() / 56, mean:item(), 1e-6)
    ;(each:sum() / 56):backward()
    local gx, gw = x.grad:clone(), w.grad:clone()
    x:zero_grad()
    w:zero_grad()
    mean:backward { keep = true }
    assert((x.grad - gx):abs():max():item() < 1e-7)
    assert((w.grad - gw):abs():max():item() < 1e-7)
    mean:backward()
    assert((w.grad - gw * 2):abs():max():item() < 2e-7)
  end)

  it("adds to what is there, until it is cleared", function()
    local w = massact.tensor({ 1, 2 }):requires_grad(true)
    assert.is_nil(w.grad)
    for n = 1, 3 do
      local loss = (w * w):sum()
      loss:backward()
      assert.same({ 2 * n, 4 * n }, w.grad:totable())
    end
    w:zero_grad()
    assert.is_nil(w.grad)
    ;(w * 3):sum():backward()
    assert.same({ 3, 3 }, w.grad:totable())
  end)

  it("shows views their part", function()
    local w = massact.zeros(2, 3):requires_grad(true)
    w[1]:sum():backward()
    assert.same({ { 0, 0, 0 }, { 1, 1, 1 } }, w.grad:totable())
    assert.same({ { 0, 1 }, { 0, 1 }, { 0, 1 } }, w:t().grad:totable())
    assert.same({ 1, 1, 1 }, w[1].grad:totable())
  end)

  it("takes a gradient to begin with, and wants one for more than one number", function()
    local w = massact.tensor({ 1, 2 }):requires_grad(true)
    assert.error_matches(function() (w * 2):backward() end, "backward wants one number, this tensor has 2")
    assert.error_matches(function() (w * 2):backward(massact.ones(3)) end, "not shaped as the tensor")
    ;(w * 2):backward(massact.tensor { 1, 10 })
    assert.same({ 2, 20 }, w.grad:totable())
  end)

  it("goes through once, or as often as it is told to keep", function()
    local w = massact.tensor({ 1, 2 }):requires_grad(true)
    local y = w:exp()
    local a, b = y:sum(), (y * 2):sum()
    a:backward { keep = true }
    a:backward { keep = true }
    b:backward()
    for i = 0, 1 do assert(math.abs(w.grad:get(i) / math.exp(i + 1) - 4) < 1e-6) end
    assert.error_matches(function() a:backward() end, "has already gone through this %(%w+%).*keep = true")
  end)

  it("keeps gradients on the way where asked", function()
    local w = massact.tensor({ 1, 2 }):requires_grad(true)
    local y, z = w * 2, w * 3
    y:keep_grad()
    ;(y * z):sum():backward()
    assert.same({ 3, 6 }, y.grad:totable())
    assert.is_nil(z.grad)
  end)

  it("finds out what was overwritten off the tape", function()
    local w = massact.tensor({ 1, 2 }):requires_grad(true)
    local y = w:exp()
    local loss = (y * w):sum()
    massact.no_grad(function() w:mul_(2) end)
    assert.error_matches(function() loss:backward() end, "backward of %w+: a tensor that it needs was written to since")
    assert.error_matches(function() w:mul_(2) end, "requires a gradient cannot be written to on the tape")
    w:requires_grad(false)
    assert.same({ 4, 8 }, w:mul_(2):totable())
  end)

  it("leaves what was saved as it was when the tape writes", function()
    local w = massact.tensor({ 1, 2 }):requires_grad(true)
    local y = w * 1
    local view = y[1]
    local z = y * y
    y:mul_(10)
    assert.equal(20, view:item())
    ;(z + y):sum():backward()
    assert.same({ 12, 14 }, w.grad:totable())
  end)

  it("works in f16 and bf16, with gradients in f32", function()
    for _, dtype in ipairs { "f16", "bf16" } do
      local w = massact.tensor({ 1, 2, 4 }, dtype):requires_grad(true)
      local x = massact.tensor { 0.5, 0.25, 2 }
      ;(w:float() * x):sum():backward()
      ;(w * w):sum():backward()
      assert.equal("f32", w.grad:dtype())
      assert.same({ 2.5, 4.25, 10 }, w.grad:totable())
    end
  end)

  it("frees everything, in any number of steps", function()
    local w = massact.randn({ 64, 64 }, { seed = 3 }):requires_grad(true)
    local function step()
      local x = w
      for _ = 1, 5 do x = x:matmul(w):tanh() end
      return x:sum()
    end
    for _ = 1, 50 do step():backward() end
    for _ = 1, 50 do step() end
    local before = massact.system.peak_memory()
    for _ = 1, 200 do step():backward() end
    for _ = 1, 200 do step() end -- never gone back through
    -- AddressSanitizer keeps what is freed for a while, and tells leaks itself.
    local allowed = os.getenv "LSAN_OPTIONS" and 512 or 2
    assert(massact.system.peak_memory() - before < allowed * 2 ^ 20, "memory grows")
  end)

  it("survives graphs of any depth, gone back through or not", function()
    for _, back in ipairs { true, false } do
      local w = massact.tensor({ 1 }):requires_grad(true)
      local x = w
      for _ = 1, 100000 do x = x + w end
      if back then x:backward() assert.equal(100001, w.grad:item()) end
    end
    collectgarbage()
  end)
end)
