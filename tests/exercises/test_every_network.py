"""Every known mistake in the exercise on every network loses its points, and no right answer loses any."""

from tests.exercises.grading import right, wrong

# Right answers, of which each wrong one changes a line.
HEAD = """
layers = [(weight.detach(), bias.detach()) for weight, bias in layers]
h, gates = features.detach().flatten(1), []
for weight, bias in layers[:-1]:
    h = h @ weight.T + bias
    gates.append(h > 0)
    h = h * gates[-1]
G = layers[-1][0][k].expand(len(features), -1)
rest = layers[-1][1][k].expand(len(features))
for (weight, bias), gate in zip(layers[-2::-1], gates[::-1]):
    G = G * gate
    rest = rest + G @ bias
    G = G @ weight
maps = (G.view(features.shape) * features.detach()).sum(1)
return maps * maps[0].numel(), rest
"""
HELD = """
plain = x.detach()
gate = torch.where(plain == 0, 0, f(plain) / torch.where(plain == 0, 1, plain))
return lambda z: gate * z
"""
NORM = """
def grouped(t):
    return t.reshape(len(t), groups, -1)
deviation = (grouped(x.detach()).var(2, unbiased=False, keepdim=True) + eps).sqrt()
def function(z):
    centred = grouped(z) - grouped(z).mean(2, keepdim=True)
    return (centred / deviation).reshape(z.shape) * weight[:, None, None] + bias[:, None, None]
return function
"""
SPLIT = """
gates, calls = [], 0
def hook(module, args, output):
    nonlocal calls
    if calls == len(gates):
        gates.append(rules[type(module)](module, args[0]))
    calls += 1
    return gates[calls - 1](args[0])
handles = [m.register_forward_hook(hook) for m in net.modules() if type(m) in rules]
with camlib.capture(net, layer, live=True) as seen:
    logit = net(x)[0, k]
A = seen[layer]
(G,) = torch.autograd.grad(logit, A)
calls = 0
handles.append(net.get_submodule(layer).register_forward_hook(lambda m, a, out: torch.zeros_like(out)))
with torch.no_grad():
    rest = net(x)[0, k]
for handle in handles:
    handle.remove()
return A[0, 0].numel() * (G * A)[0].sum(0).detach(), rest.item(), logit.item()
"""
PER_MODULE = """
gates = {}
def hook(module, args, output):
    if module not in gates:
        gates[module] = rules[type(module)](module, args[0])
    return gates[module](args[0])
"""


def but(code: str, old: str, new: str) -> str:
    assert old in code, old
    return code.replace(old, new)


def head(what: str, old: str, new: str, maps: float = 0, rest: float = 0):
    loses = {"test_head_maps": maps, "test_head_rest": rest}
    return wrong(what, "relu_head", but(HEAD, old, new), **{name: lost for name, lost in loses.items() if lost})


def held(what: str, code: str, values: float = 1, gradient: float = 1):
    loses = {"test_held": values, "test_held_gradient": gradient}
    return wrong(what, "held", code, **{name: lost for name, lost in loses.items() if lost})


def norm(what: str, old: str, new: str):
    return wrong(what, "held_norm", but(NORM, old, new), test_held_norm=2)


def split(what: str, old: str, new: str, shared: float = 2, trace: float = 0):
    loses = {"test_shared": shared, "test_no_trace": trace}
    return wrong(what, "map_and_rest", but(SPLIT, old, new), **{name: lost for name, lost in loses.items() if lost})


WRONG = [
    wrong("nothing returned", "relu_head", but(HEAD, "return", "unused ="), test_head_maps=2, test_head_rest=1),
    head("the pair swapped", "maps[0].numel(), rest", "maps[0].numel()\nrest, maps", 2, 1),
    head("the sum for the mean", "maps * maps[0].numel()", "maps", 2),
    head("times one side", "maps[0].numel()", "len(maps[0])", 2),
    head("negative cells cut", "maps * maps", "maps.relu() * maps", 2),
    head("no gates", "h > 0", "h > -torch.inf", 2, 1),
    head("the first picture's gates for all", "gates.append(h > 0)", "gates.append((h > 0)[:1].expand_as(h))", 2, 1),
    head("the gates in the wrong order", "gates[::-1]", "gates", 2, 1),
    head("gates without biases", "gates.append(h > 0)", "gates.append(h - bias > 0)", 2, 1),
    head("the second layer reads what the first would be without its ReLU", "h = h * gates[-1]", "pass", 2, 1),
    head("always class 0", "G = layers[-1][0][k]", "k = 0\nG = layers[-1][0][k]", 2, 1),
    head("gradient without features", "* features.detach()", "", 2),
    head("all pictures in one map", "* features.detach()).sum(1)", "* features.detach()).sum((0, 1))", 2),
    head("the graph stays", "layers = [(weight.detach(), bias.detach())", "layers = [(weight, bias)", 2),
    head("the last bias only", "rest = rest + G @ bias", "pass", 0, 1),
    head(
        "biases of neurons that are off, too",
        "G = G * gate\n    rest = rest + G @ bias\n",
        "rest = rest + G @ bias\n    G = G * gate\n",
        0,
        1,
    ),  # fmt: skip
    head("the last bias forgotten", "rest = layers[-1][1][k]", "rest = 0 * layers[-1][1][k]", 0, 1),
    wrong(
        "the rest is the network's answer to an empty map",
        "relu_head",
        but(
            HEAD,
            "return maps * maps[0].numel(), rest",
            """
empty = torch.zeros_like(features).flatten(1)
for weight, bias in layers[:-1]:
    empty = (empty @ weight.T + bias).relu()
return maps * maps[0].numel(), empty @ layers[-1][0][k] + layers[-1][1][k]
""",
        ),
        test_head_rest=1,
    ),
    head("one rest for all pictures", "numel(), rest", "numel(), rest[:1]", 0, 1),
    held("nothing returned", "lambda z: z"),
    held("the gates, not a function", "return torch.where(x == 0, 0, f(x) / x).detach()"),
    held("f again: the gates move", "return lambda z: f(z)"),
    held("the photo's output for every input", "y = f(x.detach())\nreturn lambda z: y"),
    held("0 / 0", "gate = (f(x) / x).detach()\nreturn lambda z: gate * z", 1, 0),
    held("the gates follow x", but(HELD, "x.detach()", "x"), 0),
    held(
        "the slope for the ratio",
        """
        leaf = x.detach().clone().requires_grad_()
        (slope,) = torch.autograd.grad(f(leaf).sum(), leaf)
        return lambda z: slope * z
        """,
    ),
    held(
        "the tangent",
        """
        leaf = x.detach().clone().requires_grad_()
        (slope,) = torch.autograd.grad(f(leaf).sum(), leaf)
        return lambda z: f(x).detach() + slope * (z - x.detach())
        """,
    ),
    held("a ReLU's gates", "gate = x.detach() > 0\nreturn lambda z: gate * z"),
    held("the photo is overwritten", but(HELD, "return", "x.data.mul_(2)\nreturn"), 1, 0),
    held("small x is taken for 0", HELD.replace("plain == 0", "plain.abs() < 0.5")),
    norm("the mean is held", "centred = grouped(z) - grouped(z).mean", "centred = grouped(z) - grouped(x).mean"),
    norm(
        "a new deviation",
        "(centred / deviation)",
        "(centred / (centred.var(2, unbiased=False, keepdim=True) + eps).sqrt())",
    ),
    norm("divided by n - 1", "unbiased=False, ", ""),
    norm(
        "eps outside the root",
        ".var(2, unbiased=False, keepdim=True) + eps).sqrt()",
        ".var(2, unbiased=False, keepdim=True)).sqrt() + eps",
    ),  # fmt: skip
    norm("no eps", " + eps", ""),
    norm("the variance for the deviation", ".sqrt()", ""),
    norm("the deviation follows x", "x.detach()", "x"),
    norm("no bias", " + bias[:, None, None]", ""),
    norm("no weight", " * weight[:, None, None]", ""),
    norm("all channels in one group", "groups, -1)", "1, -1)"),
    norm(
        "the mean is not subtracted", "centred = grouped(z) - grouped(z).mean(2, keepdim=True)", "centred = grouped(z)"
    ),
    norm(
        "channels dealt out to the groups in turn",
        "return t.reshape(len(t), groups, -1)",
        "return t.unflatten(1, (-1, groups)).transpose(1, 2).reshape(len(t), groups, -1)",
    ),  # fmt: skip
    wrong(
        "that is GroupNorm",
        "held_norm",
        "return lambda z: F.group_norm(z, groups, weight, bias, eps)",
        test_held_norm=2,
    ),
    wrong(
        "the ratio, which loses the bias",
        "held_norm",
        "gate = (F.group_norm(x, groups, weight, bias, eps) / x).nan_to_num(0).detach()\nreturn lambda z: gate * z",
        test_held_norm=2,
    ),
    wrong(
        "one gate for each module",
        "map_and_rest",
        PER_MODULE + SPLIT[SPLIT.index("handles = [") :],
        test_shared=2,
        test_no_trace=1,
    ),
    split(
        "the calls go on counting",
        "(G,) = torch.autograd.grad(logit, A)\ncalls = 0",
        "(G,) = torch.autograd.grad(logit, A)",
    ),
    split("no gates", "if type(m) in rules]", "if False]"),
    split("the sum for the mean", "A[0, 0].numel() * ", ""),
    split("the rest as a difference, with a sign", "rest.item(), logit.item()", "-rest.item(), logit.item()"),
    split("the logit for the rest", "rest.item(), logit.item()", "logit.item(), rest.item()"),
    split("always class 0", "gates, calls = [], 0", "gates, calls, k = [], 0, 0"),
    split("the probability", "logit = net(x)[0, k]", "logit = net(x).softmax(1)[0, k]"),
    split("the graph stays", ".sum(0).detach()", ".sum(0)"),
    split("the mean over the channels", "(G * A)[0].sum(0)", "(G * A)[0].mean(0)"),
    split("Grad-CAM", "(G * A)[0]", "(G.mean((2, 3), keepdim=True) * A)[0]"),
    split("negative cells cut", ".sum(0).detach()", ".sum(0).detach().relu()"),
    split("hooks are left behind", "for handle in handles:\n    handle.remove()", "", 2, 1),
    split("the empty map's hook is left behind", "for handle in handles:", "for handle in handles[:-1]:", 2, 1),
    split(
        "everybody's hooks are removed",
        "for handle in handles:\n    handle.remove()",
        "for m in net.modules():\n    m._forward_hooks.clear()",
        0,
        1,
    ),  # fmt: skip
    split(
        "backward leaves gradients",
        "(G,) = torch.autograd.grad(logit, A)",
        "A.retain_grad()\nlogit.backward()\nG = A.grad",
        0,
        1,
    ),  # fmt: skip
    wrong(
        "camlib does it",
        "map_and_rest",
        """
        m = camlib.frozen_cam(net, x, k, layer)[0]
        logit = net(x)[0, k].item()
        return m, logit - m.mean().item(), logit
        """,
        test_shared=2,
        test_no_trace=1,
    ),
]

RIGHT = [
    right(
        "by a gradient, and a second pass for the rest",
        "relu_head",
        """
        A = features.detach().clone().requires_grad_()
        h, still = A.flatten(1), torch.zeros_like(A).flatten(1)
        for weight, bias in layers[:-1]:
            h, still = h @ weight.T + bias, still @ weight.T + bias
            gate = h > 0
            h, still = h * gate, still * gate
        weight, bias = layers[-1]
        (G,) = torch.autograd.grad((h @ weight[k]).sum(), A)
        return (A[0, 0].numel() * (G * A).sum(1)).detach(), (still @ weight[k] + bias[k]).detach()
        """,
    ),
    right(
        "picture by picture, as one matrix",
        "relu_head",
        """
        with torch.no_grad():
            maps, rests = [], []
            for one in features:
                M, v = torch.eye(one.numel()), torch.zeros(one.numel())
                for n, (weight, bias) in enumerate(layers):
                    M, v = weight @ M, weight @ v + bias
                    if n < len(layers) - 1:
                        gate = ((M @ one.flatten() + v) > 0).float()
                        M, v = gate[:, None] * M, gate * v
                maps.append((M[k].view(one.shape) * one).sum(0) * one[0].numel())
                rests.append(v[k])
            return torch.stack(maps), torch.stack(rests)
        """,
    ),
    right("with NaN replaced", "held", "gate = (f(x) / x).detach().nan_to_num(0.5)\nreturn lambda z: gate * z"),
    right(
        "a named function under no_grad",
        "held",
        """
        with torch.no_grad():
            gate = torch.where(x == 0, torch.zeros_like(x), f(x) / x)
        def function(z):
            return z * gate
        return function
        """,
    ),
    right(
        "by PyTorch's own GroupNorm",
        "held_norm",
        """
        B, C, h, w = x.shape
        scale = x.detach().view(B, groups, -1).var(2, correction=0).add(eps).rsqrt().repeat_interleave(C // groups, 1)
        def function(z):
            mean = z.reshape(B, groups, -1).mean(2).repeat_interleave(C // groups, 1)
            return (z - mean[:, :, None, None]) * (scale * weight)[:, :, None, None] + bias[:, None, None]
        return function
        """,
    ),
    right(
        "gates by module and call",
        "map_and_rest",
        """
        gates, count = {}, {}
        def hook(module, args, output):
            n = count[module] = count.get(module, 0) + 1
            if (module, n) not in gates:
                gates[module, n] = rules[type(module)](module, args[0])
            return gates[module, n](args[0])
        """
        + SPLIT[SPLIT.index("handles = [") :].replace("calls = 0", "count.clear()").replace("\n", "\n        "),
    ),
    right(
        "an own hook for the layer",
        "map_and_rest",
        but(
            but(
                SPLIT,
                "with camlib.capture(net, layer, live=True) as seen:\n    logit = net(x)[0, k]\nA = seen[layer]",
                "kept = {}\ndef keep(module, args, output):\n    kept['A'] = output\n    return output * 1\n"
                "with net.get_submodule(layer).register_forward_hook(keep):\n    logit = net(x)[0, k]\nA = kept['A']",
            ),
            "rest.item(), logit.item()",
            "rest, logit.detach()",
        ),
    ),  # fmt: skip
    right(
        "rules around the modules' own forward",
        "map_and_rest",
        """
        gates, position, own = [], [0], {}
        def wrap(module):
            def forward(z):
                if position[0] == len(gates):
                    gates.append(rules[type(module)](module, z))
                position[0] += 1
                return gates[position[0] - 1](z)
            return forward
        chosen = [m for m in net.modules() if type(m) in rules]
        try:
            for m in chosen:
                m.forward = wrap(m)
            with camlib.capture(net, layer, live=True) as seen:
                logit = net(x)[0, k]
            A = seen[layer]
            (G,) = torch.autograd.grad(logit, A)
            position[0] = 0
            with torch.no_grad(), net.get_submodule(layer).register_forward_hook(lambda m, a, o: 0 * o):
                rest = net(x)[0, k]
        finally:
            for m in chosen:
                del m.forward
        return A[0, 0].numel() * (G * A)[0].sum(0).detach(), rest, logit.detach()
        """,
    ),
]
