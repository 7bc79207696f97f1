"""Every known mistake in the exercise on every network loses its points, and no right answer loses any."""

from tests.exercises.grading import peeking, right, wrong

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
modes, handles = [(m, m.training) for m in net.modules()], []
def hook(module, args, output):
    nonlocal calls
    if calls == len(gates):
        gates.append(rules[type(module)](module, args[0]))
    calls += 1
    return gates[calls - 1](args[0])
try:
    net.eval()
    handles += [m.register_forward_hook(hook) for m in net.modules() if type(m) in rules]
    with camlib.capture(net, layer, live=True) as seen:
        logit = net(x)[0, k]
    A = seen[layer]
    (G,) = torch.autograd.grad(logit, A)
    calls = 0
    handles.append(net.get_submodule(layer).register_forward_hook(lambda m, a, out: torch.zeros_like(out)))
    with torch.no_grad():
        rest = net(x)[0, k]
finally:
    for handle in handles:
        handle.remove()
    for module, training in modes:
        module.training = training
return A[0, 0].numel() * (G * A)[0].sum(0).detach(), rest.item(), logit.item()
"""
REMOVE = "    for handle in handles:\n        handle.remove()\n"
MODES = "    for module, training in modes:\n        module.training = training\n"


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


def split_right(what: str, old: str, new: str):
    return right(what, "map_and_rest", but(SPLIT, old, new))


WRONG = [
    head(
        "gates kept for the next photo of the same shape",
        "G = layers",
        "global KEPT\nKEPT = globals().get('KEPT', {})\ngates = KEPT.setdefault(features.shape, gates)\nG = layers",
        2,
        1,
    ),
    held("gates in a global, which the next call changes", "global gate\n" + but(HELD, "return", "pass\nreturn"), 1, 0),
    norm("the deviation in a global, which the next call changes", "def grouped", "global deviation\ndef grouped"),
    split(
        "output / input, whatever the rule says",
        "gates.append(rules[type(module)](module, args[0]))",
        "gate = (output / args[0]).detach().nan_to_num()\n        gates.append(lambda z: gate * z)",
    ),
    split(
        "hooks and mode left when the second pass raises",
        "    with torch.no_grad():\n        rest = net(x)[0, k]\nfinally:",
        "except BaseException:\n"
        + REMOVE
        + MODES
        + "    raise\nwith torch.no_grad():\n    rest = net(x)[0, k]\nif True:",
        0,
        1,
    ),
    wrong(
        "the features keep a gradient",
        "relu_head",
        """
        A = features if features.requires_grad else features.clone().requires_grad_()
        A.retain_grad()
        h = A.flatten(1)
        for weight, bias in layers[:-1]:
            h = (h @ weight.T + bias).relu()
        logit = h @ layers[-1][0][k] + layers[-1][1][k]
        logit.sum().backward(inputs=[A])
        maps = (A.grad * A).sum(1).detach() * A[0, 0].numel()
        return maps, logit.detach() - maps.mean((1, 2))
        """,
        test_head_maps=2,
    ),
    wrong(
        "gates of what x holds later",
        "held",
        """
        plain = x.detach()
        def function(z):
            return torch.where(plain == 0, torch.zeros_like(z), f(plain) / plain.where(plain != 0, plain + 1) * z)
        return function
    """,
        test_held=1,
    ),
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
    head("the graph stays", "layers = [(weight.detach(), bias.detach())", "layers = [(weight, bias)", 2, 1),
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
    held("0 / 0", "gate = (f(x) / x).detach()\nreturn lambda z: gate * z"),
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
    held("the photo is overwritten", but(HELD, "return", "x.data.mul_(2)\nreturn")),
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
    split(
        "one gate for each module",
        "    gates.append(rules[type(module)](module, args[0]))\n    calls += 1\n    return gates[calls - 1](args[0])",
        "    gates.append({})\n    calls = 1\n    if module not in gates[0]:\n"
        "        gates[0][module] = rules[type(module)](module, args[0])\n    return gates[0][module](args[0])",
        2,
        1,
    ),
    split(
        "the calls go on counting",
        "    calls = 0\n    handles.append",
        "    handles.append",
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
    split("hooks are left behind", REMOVE, "", 2, 1),
    split("the empty map's hook is left behind", "for handle in handles:", "for handle in handles[:-1]:", 2, 1),
    split(
        "everybody's hooks are removed",
        REMOVE,
        "    for m in net.modules():\n        m._forward_hooks.clear()\n",
        0,
        1,
    ),  # fmt: skip
    split(
        "backward leaves gradients",
        "(G,) = torch.autograd.grad(logit, A)",
        "A.retain_grad()\n    logit.backward()\n    G = A.grad",
        0,
        1,
    ),  # fmt: skip
    # tried afresh, from the task's text
    # fmt: off
    head("the features' flag is set for good", "h, gates", "features.requires_grad_()\nh, gates", 2, 1),
    head(
        "the last layer is taken out of the list",
        "layers = [",
        "last = layers.pop()\nlayers = [*layers, last]\nlayers = [",
        2,
        1,
    ),
    head(
        "the list is reversed for good",
        "layers = [(weight.detach(), bias.detach()) for weight, bias in layers]",
        "layers.reverse()\nlayers = [(weight.detach(), bias.detach()) for weight, bias in layers[::-1]]",
        2,
        1,
    ),
    head("a square map is taken for granted", "maps[0].numel()", "maps.shape[2] ** 2", 2),
    head("times the features, not the cells", "maps[0].numel()", "features[0].numel()", 2),
    head("divided by the batch", "maps * maps[0].numel()", "maps * maps[0].numel() / len(maps)", 2),
    head("the rests hang on the biases", "bias.detach()", "bias", 0, 1),
    head("the map hangs on the features", "* features.detach()", "* features", 2),
    head("two layers at most", "layers[:-1]", "layers[:1]", 2, 1),
    head("three layers at most", "h, gates", "layers = layers[:2] + layers[-1:]\nh, gates", 2, 1),
    head(
        "a ReLU on the logit",
        "return maps",
        "on = h @ layers[-1][0][k] + layers[-1][1][k] > 0\n"
        "maps, rest = maps * on[:, None, None], rest * on\nreturn maps",
        2,
        1,
    ),
    head("gates of the mean picture", "gates.append(h > 0)", "gates.append(h.mean(0, keepdim=True) > 0)", 2, 1),
    head("soft gates", "gates.append(h > 0)", "gates.append(h.sigmoid())", 2, 1),
    head("biases added up unweighted", "rest = rest + G @ bias", "rest = rest + gate.float() @ bias", 0, 1),
    head("the logit for the rest", "numel(), rest", "numel(), rest + maps.sum((1, 2))", 0, 1),
    head(
        "cells turned",
        "(G.view(features.shape) * features.detach()).sum(1)",
        "(G.view(features.shape) * features.detach()).sum(1).mT",
        2,
    ),
    head("the magnitude", "maps * maps", "maps.abs() * maps", 2),
    head(
        "one map for all pictures", "return maps", "maps = maps.mean(0, keepdim=True).expand_as(maps)\nreturn maps", 2
    ),
    held("gates kept between 0 and 1", but(HELD, "gate * z", "gate.clamp(0, 1) * z")),
    held("a small number against 0 / 0", "gate = (f(x) / (x + 1e-2)).detach()\nreturn lambda z: gate * z"),
    held("another small number", "gate = (f(x) / (x + 1e-4)).detach()\nreturn lambda z: gate * z"),
    held("gates by their magnitude", but(HELD, "gate * z", "gate.abs() * z")),
    held(
        "known functions only",
        """
        known = {F.silu: torch.sigmoid, F.hardswish: lambda t: F.hardtanh(t / 6 + 0.5, 0, 1)}
        gate = known.get(f, lambda t: (f(t) / t).nan_to_num(1))(x.detach()).clamp(max=1)
        return lambda z: gate * z
    """,
    ),
    held("the input is overwritten", but(HELD, "gate * z", "z.data.mul_(gate)"), 1, 1),
    held("a gradient that ends", but(HELD, "gate * z", "(gate * z).detach()"), 0),
    held("the input's gradient ends", but(HELD, "gate * z", "gate * z.detach()"), 0),
    held("only x is detached", "g = (f(x) / x.detach()).nan_to_num(0)\nreturn lambda z: g * z", 0),
    held("only f(x) is detached", "g = (f(x).detach() / x).nan_to_num(0)\nreturn lambda z: g * z", 0),
    held("one gate for all", but(HELD, "gate * z", "gate.mean() * z")),
    held("x gets a flag", "x = x if x.grad_fn else x.requires_grad_()" + HELD, 1, 0),
    held("the sum's gate", "gate = (f(x).sum() / x.sum()).detach()\nreturn lambda z: gate * z"),
    norm(
        "the mean has no gradient", "grouped(z).mean(2, keepdim=True)\n", "grouped(z).detach().mean(2, keepdim=True)\n"
    ),
    norm("no gradient at all", "return (centred", "centred = centred.detach()\n    return (centred"),
    norm(
        "the batch's deviation", ".var(2, unbiased=False, keepdim=True)", ".var((0, 2), unbiased=False, keepdim=True)"
    ),
    norm(
        "the root of the mean square",
        "grouped(x.detach()).var(2, unbiased=False, keepdim=True)",
        "grouped(x.detach()).square().mean(2, keepdim=True)",
    ),
    norm("the usual eps", "deviation =", "eps = 1e-5\ndeviation ="),
    norm(
        "weighted before the mean is taken",
        "centred = grouped(z)",
        "z = z * weight[:, None, None] / 1\n    centred = grouped(z)",
    ),
    norm("each channel a group", "def grouped", "groups = x.shape[1]\ndef grouped"),
    norm("x is centred in place", "deviation =", "x -= 0 * x.detach() + 1e-3\ndeviation ="),
    norm(
        "the bias divided as well",
        "(centred / deviation).reshape(z.shape) * weight[:, None, None] + bias[:, None, None]",
        "((centred * weight.view(1, groups, -1).repeat_interleave(z[0, 0].numel(), 2)) / deviation).reshape(z.shape)",
    ),
    split("random as it comes: no evaluation mode", "    net.eval()\n", "", 2),
    split("evaluation mode for good", MODES, "", 0, 1),
    split("training mode for good", MODES, "    net.train()\n", 0, 1),
    split("the net's own flag alone is put back", MODES, "    net.train(modes[0][1])\n", 0, 1),
    split("no finally", "finally:", "except ZeroDivisionError:\n    raise\nif True:", 0, 1),
    split(
        "no KeyboardInterrupt thought of",
        "finally:",
        "except Exception:\n    for handle in handles:\n        handle.remove()\n"
        "    for module, training in modes:\n        module.training = training\n    raise\nif True:",
        0,
        1,
    ),
    split(
        "exceptions swallowed",
        "finally:",
        "except BaseException:\n    A = G = torch.zeros(1, 1, 2, 2)\n    rest = logit = A.sum()\nfinally:",
        0,
        1,
    ),
    split("a rule is added", "gates, calls", "rules.setdefault(nn.Softplus)\ngates, calls"),
    split("only layers at the top", "net.get_submodule(layer)", "dict(net.named_children())[layer]"),
    split("its own rules", "gates, calls", "rules = RULES\ngates, calls", 2),
    split("rules without their module", "(module, args[0])", "(None, args[0])", 2),
    split(
        "the ratio, whatever the rule",
        "rules[type(module)](module, args[0])",
        "(lambda g: lambda z: g * z)((output / args[0]).detach().nan_to_num(0) + 1)",
        2,
    ),
    split(
        "gates in the wrong order",
        "gates[calls - 1](args[0])",
        "(gates[calls - 1] if len(gates) < 5 or calls != 3 else gates[0])(args[0])",
        2,
        1,
    ),
    split(
        "a hook of all modules stays",
        "try:\n",
        "nn.modules.module.register_module_forward_hook(lambda *a: None)\ntry:\n",
        0,
        1,
    ),
    split(
        "forward is wrapped for good",
        "try:\n",
        "last = net.get_submodule(layer)\nlast.forward = last.forward\ntry:\n",
        0,
        1,
    ),
    split("x gets a flag", "try:\n", "x.requires_grad_()\ntry:\n", 0, 1),
    split("x is overwritten", "try:\n", "x.data.mul_(2)\ntry:\n", 2, 1),
    split("all parameters are frozen for good", "try:\n", "net.requires_grad_(False)\ntry:\n", 0, 1),
    split("all parameters are thawed for good", "try:\n", "net.requires_grad_(True)\ntry:\n", 0, 1),
    split("other people's gradients are cleared", "try:\n", "net.zero_grad()\ntry:\n", 0, 1),
    split(
        "gradients are off for good",
        "    with torch.no_grad():\n        rest = net(x)[0, k]",
        "    torch.set_grad_enabled(False)\n    rest = net(x)[0, k]",
        0,
        1,
    ),
    split("a frozen network has no map", "try:\n", "assert any(p.requires_grad for p in net.parameters())\ntry:\n", 2),
    split(
        "an empty photo for an empty map",
        "        rest = net(x)",
        "        handles.pop().remove()\n        rest = net(0 * x)",
        2,
    ),
    split("gates of the empty map", "    calls = 0\n", "    calls = 0\n    gates.clear()\n", 2),
    split("the sum over a square", "A[0, 0].numel()", "A.shape[2] ** 2", 2),
    split(
        "all hooks of the net are dropped first",
        "    net.eval()\n",
        "    net.eval()\n    for m in net.modules():\n        m._forward_hooks.clear()\n",
        0,
        1,
    ),
    # fmt: on
    wrong(
        "camlib does it, by a name bound early",
        "map_and_rest",
        """
        from camlib.gradcam import frozen_cam
        def map_and_rest(net, layer, x, k, rules):
            m = frozen_cam(net, x, k, layer)[0]
            logit = net(x)[0, k].item()
            return m, logit - m.mean().item(), logit
        """,
        test_shared=2,
        test_no_trace=1,
    ),
    wrong(
        "camlib does it, by the method's own name",
        "map_and_rest",
        """
        run = camlib.METHODS["frozen"].formula
        def map_and_rest(net, layer, x, k, rules):
            found = camlib.explain(camlib.load_model(net, layer=layer), x, method="frozen")
            return found.map(k), float(found.rest(k)), float(found.logits[k])
        """,
        test_shared=2,
        test_no_trace=1,
    ),
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
    peeking(
        "relu_head",
        "(len(features), *features.shape[2:])",
        "torch.tensor([[[18.0, -2]]])",
        test_head_maps=2,
        test_head_rest=1,
    ),
    wrong(
        "gates that are computed when they are used",
        "held",
        "return lambda z: torch.nan_to_num(f(x.detach()) / x.detach()) * z",
        test_held=1,
    ),
    wrong(
        "zeros put in afterwards, which leave a gradient that is not a number",
        "held",
        """
        at = x.detach().clone()
        gate = f(at) / at
        return lambda z: torch.where(at == 0, torch.zeros_like(z), gate * z)
        """,
        test_held_gradient=1,
    ),
    wrong(
        "gates cached by module and size",
        "map_and_rest",
        but(
            but(SPLIT, "gates, calls = [], 0", "gates, calls = {}, 0"),
            """
    if calls == len(gates):
        gates.append(rules[type(module)](module, args[0]))
    calls += 1
    return gates[calls - 1](args[0])
""",
            """
    of = module, args[0].shape
    if of not in gates:
        gates[of] = rules[type(module)](module, args[0])
    return gates[of](args[0])
""",
        ),
        test_shared=2,
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
    # fmt: off
    split_right(
        "gates by module and call",
        "    if calls == len(gates):\n        gates.append(rules[type(module)](module, args[0]))\n    calls += 1\n"
        "    return gates[calls - 1](args[0])",
        "    if len(gates) == calls:\n        gates.append((module, rules[type(module)](module, *args)))\n"
        "    owner, gate = gates[calls]\n    calls += 1\n    assert owner is module\n    return gate(*args)",
    ),
    split_right(
        "an own hook for the layer",
        "with camlib.capture(net, layer, live=True) as seen:\n        logit = net(x)[0, k]\n    A = seen[layer]",
        "kept = {}\n    def keep(module, args, output):\n"
        "        kept['A'] = output * 1 if output.requires_grad else output.detach().requires_grad_()\n"
        "        return kept['A']\n"
        "    with net.get_submodule(layer).register_forward_hook(keep):\n        logit = net(x)[0, k]\n"
        "    A = kept['A']",
    ),
    split_right("lists with one number", "rest.item(), logit.item()", "[rest.item()], logit.numpy(force=True)[None]"),
    split_right("tensors with one element", "rest.item(), logit.item()", "rest.detach().view(1), logit.detach()"),
    split_right(
        "NumPy in double precision",
        "A[0, 0].numel() * (G * A)[0].sum(0).detach(), rest.item(), logit.item()",
        "A[0, 0].numel() * (G * A)[0].sum(0).detach().double().numpy(), rest.numpy(), logit.detach().numpy()",
    ),
    split_right(
        "a list of lists",
        "A[0, 0].numel() * (G * A)[0].sum(0).detach()",
        "(A[0, 0].numel() * (G * A)[0].sum(0)).tolist()",
    ),
    split_right("a warning at each pass", "try:\n", "import warnings\nwarnings.warn('held')\ntry:\n"),
    split_right(
        "the rest as what is left of the logit",
        "rest.item(), logit.item()",
        "(logit - A[0, 0].numel() * (G * A).sum() / A[0, 0].numel()).item(), logit.item()",
    ),
    split_right(
        "a list for a pair",
        "return A[0, 0].numel() * (G * A)[0].sum(0).detach(), rest.item(), logit.item()",
        "return [A[0, 0].numel() * (G * A)[0].sum(0).detach(), rest.item(), logit.item()]",
    ),
    split_right(
        "the gradient by backward on the map alone",
        "(G,) = torch.autograd.grad(logit, A)",
        "A.retain_grad()\n    logit.backward(inputs=[A])\n    G = A.grad",
    ),
    right(
        "a copy of the network, and a context manager",
        "map_and_rest",
        """
        import contextlib, copy
        twin, gates, calls = copy.deepcopy(net).eval().requires_grad_(True), [], iter(())
        @contextlib.contextmanager
        def hooked(function):
            handles = [m.register_forward_hook(function) for m in twin.modules() if type(m) in rules]
            yield
            for handle in handles:
                handle.remove()
        def first(module, args, output):
            gates.append(rules[type(module)](module, args[0]))
            return gates[-1](args[0])
        with hooked(first), camlib.capture(twin, layer, live=True) as seen:
            logit = twin(x)[0, k]
        (G,) = torch.autograd.grad(logit, seen[layer])
        calls = iter(gates)
        with hooked(lambda module, args, output: next(calls)(args[0])), torch.no_grad():
            with twin.get_submodule(layer).register_forward_hook(lambda m, a, out: out * 0):
                rest = twin(x)[0, k]
        return (G * seen[layer])[0].sum(0).detach() * G[0, 0].numel(), rest, logit
        """,
    ),
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
        chosen, modes = [m for m in net.modules() if type(m) in rules], {m: m.training for m in net.modules()}
        try:
            net.eval()
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
            for m, mode in modes.items():
                m.train(mode) if not list(m.children()) else setattr(m, "training", mode)
        return A[0, 0].numel() * (G * A)[0].sum(0).detach(), rest, logit.detach()
        """,
    ),
    right(
        "NumPy",
        "relu_head",
        """
        import numpy as np
        W = [(weight.detach().numpy().astype(float), bias.detach().numpy().astype(float)) for weight, bias in layers]
        A = features.detach().numpy().astype(float)
        maps, rests = np.zeros((len(A), *A.shape[2:])), np.zeros(len(A))
        for n, one in enumerate(A):
            t, on = one.ravel(), []
            for weight, bias in W[:-1]:
                t = weight @ t + bias
                on.append(t > 0)
                t = np.where(t > 0, t, 0)
            g = W[-1][0][k]
            rests[n] = W[-1][1][k]
            for (weight, bias), gate in zip(reversed(W[:-1]), reversed(on)):
                g = np.where(gate, g, 0)
                rests[n] += g @ bias
                g = g @ weight
            maps[n] = (g.reshape(one.shape) * one).sum(0) * one[0].size
        return maps, rests
    """,
    ),
    right(
        "lists",
        "relu_head",
        but(HEAD, "return maps * maps[0].numel(), rest", "return [(maps * maps[0].numel()).tolist(), rest.tolist()]"),
    ),
    right(
        "double precision",
        "relu_head",
        but(
            but(HEAD, "features.detach().flatten(1)", "features.detach().double().flatten(1)"),
            "(weight.detach(), bias.detach())",
            "(weight.detach().double(), bias.detach().double())",
        ),
    ),
    right(
        "the logit less the map",
        "relu_head",
        but(
            HEAD,
            "return maps * maps[0].numel(), rest",
            "maps = maps * maps[0].numel()\nreturn maps, h @ layers[-1][0][k] + layers[-1][1][k] - maps.mean((1, 2))",
        ),
    ),
    right(
        "gates by clamp",
        "relu_head",
        but(HEAD, "gates.append(h > 0)", "gates.append(torch.heaviside(h, torch.zeros(1)))"),
    ),
    right(
        "a network of modules, a hook on nothing",
        "relu_head",
        """
        parts = [nn.Flatten()]
        for weight, bias in layers:
            linear = nn.Linear(weight.shape[1], weight.shape[0])
            linear.weight.data, linear.bias.data = weight.detach().clone(), bias.detach().clone()
            parts += [linear, nn.ReLU()]
        net = nn.Sequential(*parts[:-1])
        A = features.detach().clone().requires_grad_()
        logits = net(A)[:, k]
        G = torch.autograd.grad(logits.sum(), A)[0]
        maps = torch.einsum("bchw,bchw->bhw", G, A).detach() * A.shape[-1] * A.shape[-2]
        return maps, logits.detach() - maps.mean(dim=(-1, -2))
    """,
    ),
    right(
        "a loop over functions of torch.func",
        "relu_head",
        """
        def logit(one):
            t = one.flatten()
            for n, (weight, bias) in enumerate(layers):
                t = F.linear(t, weight.detach(), bias.detach())
                t = t if n == len(layers) - 1 else t * (t > 0)
            return t[k]
        A = features.detach()
        G, values = torch.func.vmap(torch.func.grad_and_value(logit))(A)
        maps = (G * A).sum(1) * A[0, 0].numel()
        return maps, values - maps.mean((1, 2))
    """,
    ),
    right(
        "a class with __call__",
        "held",
        """
        class Gate:
            def __init__(self, values):
                self.values = values
            def __call__(self, z):
                return torch.mul(self.values, z)
        plain = x.detach().clone()
        plain[plain == 0] = 1e-3
        return Gate(f(plain).div(plain).detach())
    """,
    ),
    right(
        "a partial",
        "held",
        "import functools\ngate = torch.nan_to_num(f(x.detach()) / x.detach(), 0)\n"
        "return functools.partial(torch.mul, gate)",
    ),
    right(
        "computed late",
        "held",
        """
        plain = x.detach().clone()
        def function(z):
            return torch.where(plain == 0, torch.zeros_like(z), f(plain) / plain.where(plain != 0, plain + 1) * z)
        return function
    """,
    ),
    right(
        "the slope at 0",
        "held",
        """
        tiny = torch.where(x == 0, torch.full_like(x, 1e-4), x).detach()
        gate = (f(tiny) / tiny).detach()
        return gate.mul
    """,
    ),
    right(
        "in double precision, and back",
        "held",
        """
        plain = x.detach().double()
        gate = (f(plain) / plain).nan_to_num(0).to(x.dtype)
        return lambda z: z * gate
    """,
    ),
    right(
        "F.group_norm of the other input, scaled back",
        "held_norm",
        """
        def deviation(t):
            deviations = (t.reshape(len(t), groups, -1).var(2, correction=0) + eps).sqrt()
            return deviations.repeat_interleave(t.shape[1] // groups, 1)
        own = deviation(x.detach())
        def function(z):
            plain = F.group_norm(z, groups, None, None, eps) * (deviation(z) / own)[:, :, None, None]
            return plain * weight.view(1, -1, 1, 1) + bias.view(1, -1, 1, 1)
        return function
    """,
    ),
    right(
        "unflattened, with var_mean",
        "held_norm",
        """
        g = x.detach().unflatten(1, (groups, -1))
        var, _ = torch.var_mean(g, (2, 3, 4), correction=0, keepdim=True)
        def function(z):
            z = z.unflatten(1, (groups, -1))
            z = (z - z.mean((2, 3, 4), keepdim=True)) / torch.sqrt(var + eps)
            return torch.addcmul(bias[:, None, None], z.flatten(1, 2), weight[:, None, None])
        return function
    """,
    ),
    right(
        "group by group",
        "held_norm",
        """
        n = x.shape[1] // groups
        parts = x.detach().split(n, 1)
        scales = [(part.var((1, 2, 3), unbiased=False, keepdim=True) + eps) ** -0.5 for part in parts]
        def function(z):
            parts = z.split(n, 1)
            parts = [(part - part.mean((1, 2, 3), keepdim=True)) * s for part, s in zip(parts, scales)]
            return torch.cat(parts, 1) * weight[None, :, None, None] + bias[None, :, None, None]
        return function
    """,
    ),
    right("in double precision", "held_norm", but(NORM, "x.detach()", "x.detach().double()")),
    # fmt: on
]
