---@meta

-- Tensors, as editors see them.  Dims, indices and positions count from 0; negative ones count from the end.  What gives a
-- tensor gives a new one; views (said so) share storage with the tensor that they are made of.  A number may stand
-- where a second tensor is wanted; it takes the tensor's dtype.  tests/lua/docs_spec.lua keeps this file complete.

---@class massact.Tensor
---@operator add(massact.Tensor|number): massact.Tensor
---@operator sub(massact.Tensor|number): massact.Tensor
---@operator mul(massact.Tensor|number): massact.Tensor
---@operator div(massact.Tensor|number): massact.Tensor
---@operator pow(massact.Tensor|number): massact.Tensor
---@operator mod(massact.Tensor|number): massact.Tensor
---@operator unm: massact.Tensor
---@operator len: integer size of dim 0
---@field [integer] massact.Tensor row of dim 0, a view
---@field grad? massact.Tensor the gradient that has arrived here: a view, f32
local Tensor = {}

-- ---- functions of each element ----

----x
---@return massact.Tensor
function Tensor:neg() end

---|x|
---@return massact.Tensor
function Tensor:abs() end

----1, 0 or 1
---@return massact.Tensor
function Tensor:sign() end

---e^x
---@return massact.Tensor
function Tensor:exp() end

---natural logarithm
---@return massact.Tensor
function Tensor:log() end

---square root
---@return massact.Tensor
function Tensor:sqrt() end

---1 / square root
---@return massact.Tensor
function Tensor:rsqrt() end

---x^2
---@return massact.Tensor
function Tensor:square() end

---1 / x
---@return massact.Tensor
function Tensor:reciprocal() end

---sine
---@return massact.Tensor
function Tensor:sin() end

---cosine
---@return massact.Tensor
function Tensor:cos() end

---hyperbolic tangent
---@return massact.Tensor
function Tensor:tanh() end

---1 / (1 + e^-x)
---@return massact.Tensor
function Tensor:sigmoid() end

---max(x, 0)
---@return massact.Tensor
function Tensor:relu() end

---x sigmoid(x)
---@return massact.Tensor
function Tensor:silu() end

---x Phi(x), exact (erf)
---@return massact.Tensor
function Tensor:gelu() end

---the tanh approximation of gelu (Hendrycks and Gimpel 2016)
---@return massact.Tensor
function Tensor:gelu_tanh() end

---largest integer not above x
---@return massact.Tensor
function Tensor:floor() end

---smallest integer not below x
---@return massact.Tensor
function Tensor:ceil() end

---nearest integer, ties to even
---@return massact.Tensor
function Tensor:round() end

---1 where x is NaN (u8)
---@return massact.Tensor
function Tensor:isnan() end

---1 where x is infinite (u8)
---@return massact.Tensor
function Tensor:isinf() end

---1 where x is finite (u8)
---@return massact.Tensor
function Tensor:isfinite() end

---scale times the nearest whole number (ties to even) of x / scale, kept within -levels and levels: what an integer type of
---few bits would hold; the defaults' 127 is int8's.
---@param scale number above 0
---@param levels? integer 127
---@return massact.Tensor
function Tensor:quantize(scale, levels) end

---The same, in place.
---@param scale number above 0
---@param levels? integer 127
---@return massact.Tensor self
function Tensor:quantize_(scale, levels) end

-- ---- functions of two tensors, with broadcasting; the ones that end in _ write to the first ----

---a + b
---@param b massact.Tensor|number
---@return massact.Tensor
function Tensor:add(b) end

---a + b, in place
---@param b massact.Tensor|number
---@return massact.Tensor self
function Tensor:add_(b) end

---a - b
---@param b massact.Tensor|number
---@return massact.Tensor
function Tensor:sub(b) end

---a - b, in place
---@param b massact.Tensor|number
---@return massact.Tensor self
function Tensor:sub_(b) end

---a * b
---@param b massact.Tensor|number
---@return massact.Tensor
function Tensor:mul(b) end

---a * b, in place
---@param b massact.Tensor|number
---@return massact.Tensor self
function Tensor:mul_(b) end

---a / b (float result)
---@param b massact.Tensor|number
---@return massact.Tensor
function Tensor:div(b) end

---a / b (float result), in place
---@param b massact.Tensor|number
---@return massact.Tensor self
function Tensor:div_(b) end

---a ^ b
---@param b massact.Tensor|number
---@return massact.Tensor
function Tensor:pow(b) end

---a ^ b, in place
---@param b massact.Tensor|number
---@return massact.Tensor self
function Tensor:pow_(b) end

---a - b floor(a / b)
---@param b massact.Tensor|number
---@return massact.Tensor
function Tensor:mod(b) end

---a - b floor(a / b), in place
---@param b massact.Tensor|number
---@return massact.Tensor self
function Tensor:mod_(b) end

---the smaller; NaN wins
---@param b massact.Tensor|number
---@return massact.Tensor
function Tensor:minimum(b) end

---the smaller; NaN wins, in place
---@param b massact.Tensor|number
---@return massact.Tensor self
function Tensor:minimum_(b) end

---the larger; NaN wins
---@param b massact.Tensor|number
---@return massact.Tensor
function Tensor:maximum(b) end

---the larger; NaN wins, in place
---@param b massact.Tensor|number
---@return massact.Tensor self
function Tensor:maximum_(b) end

---a > b (u8)
---@param b massact.Tensor|number
---@return massact.Tensor
function Tensor:gt(b) end

---a >= b (u8)
---@param b massact.Tensor|number
---@return massact.Tensor
function Tensor:ge(b) end

---a < b (u8)
---@param b massact.Tensor|number
---@return massact.Tensor
function Tensor:lt(b) end

---a <= b (u8)
---@param b massact.Tensor|number
---@return massact.Tensor
function Tensor:le(b) end

---a == b (u8)
---@param b massact.Tensor|number
---@return massact.Tensor
function Tensor:eq(b) end

---a ~= b (u8)
---@param b massact.Tensor|number
---@return massact.Tensor
function Tensor:ne(b) end

-- ---- reductions: over a dim, or over everything (a tensor of 0 dims; `item` gives its number) ----

---sum
---@param dim? integer
---@param options? {keep?: boolean} keep: the dim stays, of size 1
---@return massact.Tensor
function Tensor:sum(dim, options) end

---mean
---@param dim? integer
---@param options? {keep?: boolean} keep: the dim stays, of size 1
---@return massact.Tensor
function Tensor:mean(dim, options) end

---product
---@param dim? integer
---@param options? {keep?: boolean} keep: the dim stays, of size 1
---@return massact.Tensor
function Tensor:prod(dim, options) end

---largest; NaN wins; with a dim also where
---@param dim? integer
---@param options? {keep?: boolean} keep: the dim stays, of size 1
---@return massact.Tensor values
---@return massact.Tensor? index
function Tensor:max(dim, options) end

---smallest; NaN wins; with a dim also where
---@param dim? integer
---@param options? {keep?: boolean} keep: the dim stays, of size 1
---@return massact.Tensor values
---@return massact.Tensor? index
function Tensor:min(dim, options) end

---index of the largest, the first of equals
---@param dim? integer
---@param options? {keep?: boolean} keep: the dim stays, of size 1
---@return massact.Tensor
function Tensor:argmax(dim, options) end

---index of the smallest, the first of equals
---@param dim? integer
---@param options? {keep?: boolean} keep: the dim stays, of size 1
---@return massact.Tensor
function Tensor:argmin(dim, options) end

---variance, n - 1
---@param dim? integer
---@param options? {keep?: boolean} keep: the dim stays, of size 1
---@return massact.Tensor
function Tensor:var(dim, options) end

---standard deviation, n - 1
---@param dim? integer
---@param options? {keep?: boolean} keep: the dim stays, of size 1
---@return massact.Tensor
function Tensor:std(dim, options) end

---Euclidean norm
---@param dim? integer
---@param options? {keep?: boolean} keep: the dim stays, of size 1
---@return massact.Tensor
function Tensor:norm(dim, options) end

---1 when any is not 0 (u8)
---@param dim? integer
---@param options? {keep?: boolean} keep: the dim stays, of size 1
---@return massact.Tensor
function Tensor:any(dim, options) end

---1 when none is 0 (u8)
---@param dim? integer
---@param options? {keep?: boolean} keep: the dim stays, of size 1
---@return massact.Tensor
function Tensor:all(dim, options) end

---The lower median, exact (rank (n - 1) // 2), as torch.median.
---@param dim? integer
---@param options? {keep?: boolean}
---@return massact.Tensor
function Tensor:median(dim, options) end

---The element of rank floor(q (n - 1)).
---@param q number 0 to 1
---@param dim? integer
---@param options? {keep?: boolean}
---@return massact.Tensor
function Tensor:quantile(q, dim, options) end

---Stable; NaN comes last.
---@param dim? integer the last by default
---@param options? {descending?: boolean}
---@return massact.Tensor values
---@return massact.Tensor index i64
function Tensor:sort(dim, options) end

---The k largest along the last dim, in order.
---@param k integer
---@return massact.Tensor values
---@return massact.Tensor index i64
function Tensor:topk(k) end

-- ---- products, rows ----

---[.. M K] x [.. K N] -> [.. M N]; batch dims broadcast.
---@param b massact.Tensor
---@return massact.Tensor f32
function Tensor:matmul(b) end

---Over the last dim.
---@return massact.Tensor
function Tensor:softmax() end

---Over the last dim.
---@return massact.Tensor
function Tensor:log_softmax() end

---x / sqrt(mean x^2 + eps) * weight over the last dim.
---@param weight? massact.Tensor [D]
---@param eps? number 1e-5
---@return massact.Tensor
function Tensor:rms_norm(weight, eps) end

---(x - mean) / sqrt(var + eps) * weight + bias over the last dim.
---@param weight? massact.Tensor [D]
---@param bias? massact.Tensor [D]
---@param eps? number 1e-5
---@return massact.Tensor
function Tensor:layer_norm(weight, bias, eps) end

---a where self is not 0, else b.
---@param a massact.Tensor|number
---@param b massact.Tensor|number
---@return massact.Tensor
function Tensor:where(a, b) end

---The entries of `index` along a dim.
---@param dim integer
---@param index massact.Tensor a list of i64 or i32
---@return massact.Tensor
function Tensor:gather(dim, index) end

-- ---- writing ----

---Every element becomes the number.
---@param value number
---@return massact.Tensor self
function Tensor:fill_(value) end

---@class massact.AdamW
---@field step integer from 1
---@field rate? number learning rate (1e-3)
---@field beta1? number 0.9
---@field beta2? number 0.999
---@field eps? number 1e-8
---@field weight_decay? number decoupled (0)
---@field scale? number multiplies the gradient (1)

---One step of AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101) on a parameter, its running mean and its running square, all f32,
---contiguous and of one shape.
---@param gradient massact.Tensor
---@param mean massact.Tensor zeros at first
---@param square massact.Tensor zeros at first
---@param how massact.AdamW
---@return massact.Tensor self
function Tensor:adamw_(gradient, mean, square, how) end

---Takes the elements of another tensor, converted and broadcast.
---@param from massact.Tensor
---@return massact.Tensor self
function Tensor:copy_(from) end

---Sets one element: an index a dim, then the value.
---@param ... number
---@return massact.Tensor self
function Tensor:set(...) end

-- ---- views ----

---The same elements in another shape; one size may be -1.  A view where it can be, else a copy.
---@param ... integer|integer[]
---@return massact.Tensor
function Tensor:reshape(...) end

---The same as reshape.
---@param ... integer|integer[]
---@return massact.Tensor
function Tensor:view(...) end

---Swaps two dims; a view.
---@param a integer
---@param b integer
---@return massact.Tensor
function Tensor:transpose(a, b) end

---A matrix turned; a view.
---@return massact.Tensor
function Tensor:t() end

---Dims in a new order; a view.
---@param ... integer|integer[]
---@return massact.Tensor
function Tensor:permute(...) end

---[start, start + length) of a dim; a view.
---@param dim integer
---@param start integer
---@param length integer
---@return massact.Tensor
function Tensor:narrow(dim, start, length) end

---One index of a dim, which goes away; a view.
---@param dim integer
---@param index integer
---@return massact.Tensor
function Tensor:select(dim, index) end

---Broadcast to a shape; a view.
---@param ... integer|integer[]
---@return massact.Tensor
function Tensor:expand(...) end

---A dim of size 1 more; a view.
---@param dim integer
---@return massact.Tensor
function Tensor:unsqueeze(dim) end

---Without dims of size 1 (or without the one named); a view.
---@param dim? integer
---@return massact.Tensor
function Tensor:squeeze(dim) end

-- ---- asking ----

---@return integer[]
function Tensor:shape() end

---Size of a dim, or the number of elements.
---@param dim? integer
---@return integer
function Tensor:size(dim) end

---Number of dims.
---@return integer
function Tensor:dim() end

---"f32", "f16", "bf16", "i32", "i64", "u8" or a packed type of GGUF.
---@return string
function Tensor:dtype() end

---"cpu"
---@return string
function Tensor:device() end

---One element: an index a dim.
---@param ... integer
---@return number
function Tensor:get(...) end

---The number in a tensor of one element.
---@return number
function Tensor:item() end

---Nested tables (from 1, as Lua's tables are); a number for 0 dims.
---@return table|number
function Tensor:totable() end

---Iterates over dim 0: `for i, row in t:rows() do`, i from 0, rows are views.
---@return fun(t: massact.Tensor, i: integer): integer?, massact.Tensor?
---@return massact.Tensor
---@return integer
function Tensor:rows() end

-- ---- conversion ----

---A contiguous copy.
---@return massact.Tensor
function Tensor:clone() end

---A copy of another dtype ("q8_0" and "q4_0" among them) or on another device.
---@param options {dtype?: string, device?: string}
---@return massact.Tensor
function Tensor:to(options) end

---A copy as f32.
---@return massact.Tensor
function Tensor:float() end

-- ---- the decoder's operations, for layers of a script's own ----

---self [.. K] times weight [N K] transposed, plus bias.
---@param weight massact.Tensor [N K], any dtype; its leading dims may be split
---@param bias? massact.Tensor [N]
---@return massact.Tensor [.. N]
function Tensor:linear(weight, bias) end

---Rows of self [V D] by id.
---@param ids massact.Tensor i64, of any shape
---@return massact.Tensor [.. D]
function Tensor:embed(ids) end

---Dynamic Tanh (arXiv 2503.10622): weight * tanh(alpha * self) + bias.
---@param alpha massact.Tensor [1]
---@param weight massact.Tensor [D]
---@param bias? massact.Tensor [D]
---@return massact.Tensor
function Tensor:dyt(alpha, weight, bias) end

---activation(self) * up.
---@param activation string the name of a function of each element: "silu", "gelu" ...
---@param up massact.Tensor shaped as self
---@return massact.Tensor
function Tensor:gated(activation, up) end

---Rotary position embedding (arXiv 2104.09864) of self [B T H d]: dims i and i + n turn, those from 2 n on stay.
---@param cosine massact.Tensor [T n]
---@param sine massact.Tensor [T n]
---@return massact.Tensor
function Tensor:rope(cosine, sine) end

---@class massact.AttentionHow
---@field scale? number multiplies q k (d^-1/2)
---@field softcap? number c tanh(s / c) after that; 0: none
---@field window? integer a query sees its last so many keys, its own among them; 0: all
---@field alibi? number[] a slope for each head: score += slope * (key - last key)
---@field extra_key? massact.Tensor [H d] one more key a head, in front, seen by every query
---@field extra_value? massact.Tensor [H d]

---Causal attention of queries self [B Tq H d]; query i stands at position Tk - Tq + i.
---@param k massact.Tensor [B Tk G d], G divides H
---@param v massact.Tensor [B Tk G d]
---@param how? massact.AttentionHow
---@return massact.Tensor [B Tq H d]
function Tensor:attention(k, v, how) end

---Its first half: what enters the softmax, -inf where hidden; with an extra key, that is column 0.
---@param k massact.Tensor [B Tk G d]
---@param how? massact.AttentionHow
---@return massact.Tensor [B H Tq S]
function Tensor:attention_scores(k, how) end

---Its second half: values mixed by probabilities self [B H Tq S].
---@param v massact.Tensor [B Tk G d]
---@param how? massact.AttentionHow its extra_value is used
---@return massact.Tensor [B Tq H d]
function Tensor:attention_mix(v, how) end

---Losses in nats of logits self [N V].
---@param targets massact.Tensor [N] i64; a negative one gives 0
---@return massact.Tensor [N]
function Tensor:cross_entropy(targets) end

---The same from hidden states self [N K] and an output head; the logits never exist whole, nor do their gradients.
---@param weight massact.Tensor [V K]
---@param targets massact.Tensor [N] i64
---@param how? {bias?: massact.Tensor, scale?: number, softcap?: number} of the logits
---@return massact.Tensor [N]
function Tensor:linear_cross_entropy(weight, targets, how) end

---The mean of these over targets that are not negative.  Where gradients are recorded they are computed at once, which saves computing
---the logits twice.
---@param weight massact.Tensor [V K]
---@param targets massact.Tensor [N] i64
---@param how? {bias?: massact.Tensor, scale?: number, softcap?: number} of the logits
---@return massact.Tensor one number
function Tensor:mean_cross_entropy(weight, targets, how) end

---Shares of experts: softmax of logits self [.. X], its k largest divided by their sum, 0 elsewhere.
---@param k integer
---@return massact.Tensor
function Tensor:route(k) end

---self [N D] with scale[i] * x[i] added to row index[i].
---@param x massact.Tensor [n D]
---@param index massact.Tensor [n] i64
---@param scale massact.Tensor [n]
---@return massact.Tensor
function Tensor:add_rows(x, index, scale) end

-- ---- gradients ----

---Whether gradients flow back through it; with `on`, makes it (floats, not computed) one that gathers them, or no longer.
---@param on? boolean
---@return boolean|massact.Tensor self, where `on` is given
function Tensor:requires_grad(on) end

---Adds the gradient of self to `.grad` of all that it was computed from and that requires one (f32, nil before).  What the way back
---needs is freed, unless `keep`.  Fails where an operation has no gradient, or where something was overwritten under no_grad
---that the way back needs.
---@param gradient? massact.Tensor to begin with, shaped as self; self is one number where it is left out
---@param options? {keep?: boolean}
function Tensor:backward(gradient, options) end

---The same elements, off the tape: what is computed from them or written to them is not recorded.  A view.
---@return massact.Tensor
function Tensor:detach() end

---Lets a computed tensor have its `.grad` after backward, too.
---@return massact.Tensor self
function Tensor:keep_grad() end

---Forgets `.grad`.
---@return massact.Tensor self
function Tensor:zero_grad() end
