"""Every known mistake in the exercise on Grad-CAM loses its points, and no right answer loses any."""

from tests.exercises.grading import right, wrong

# A right answer, of which each wrong one changes a line.
BEFORE = """
training = {m: m.training for m in net.modules()}
net.eval()
"""
LOOK = """
with camlib.capture(net, layer, live=True) as seen:
    logits = net(x)
A = seen[layer]
"""
GRADIENT = "(G,) = torch.autograd.grad(TARGET, A)\n"
AFTER = """
for m, flag in training.items():
    m.training = flag
"""
LOGIT = "logits[:, k].sum()"
MAP = "(G.mean((2, 3), keepdim=True) * A).sum(1).detach()"
OWN_HOOK = """
kept = {}
handle = net.get_submodule(layer).register_forward_hook(lambda m, args, out: kept.update(A=out))
logits = net(x)
handle.remove()
A = kept["A"]
"""


def body(
    target: str = LOGIT,
    result: str = MAP,
    before: str = BEFORE,
    look: str = LOOK,
    gradient: str = GRADIENT,
    after: str = AFTER,
) -> str:
    return f"{before}{look}{gradient.replace('TARGET', target)}{after}\nreturn {result}"


def values(what: str, **changed: str):
    """A mistake in the numbers: it costs the values' points, whichever layer is asked."""
    return wrong(what, "grad_cam", body(**changed), test_values=2, test_layers=1)


def by_camlib(what: str, code: str):
    """What is to be written by hand, left to camlib: all points of the task."""
    return wrong(what, "grad_cam", code, test_values=2, test_layers=1, test_no_trace=1, test_no_flag=1)


HEAD = """
with torch.no_grad():
    is_open = hidden(features.mean((2, 3))) > 0
    gated = last.weight[k] * is_open
    maps = torch.einsum("bd,dc,bchw->bhw", gated, hidden.weight, features)
    rest = last.bias[k] + gated @ hidden.bias
"""


def head(old: str = "", new: str = "", result: str = "maps, rest") -> str:
    assert old in HEAD
    return (HEAD.replace(old, new) if old else HEAD) + f"\nreturn {result}"


WRONG = [
    wrong(
        "nothing returned",
        "grad_cam",
        body(result="None"),
        test_values=2,
        test_layers=1,
        test_no_trace=1,
        test_no_flag=1,
    ),
    by_camlib("camlib does it", "return camlib.grad_cam(net, x, k, layer)"),
    by_camlib("camlib does it, by the method's name", 'return camlib.gradient_map(net, x, k, "grad_cam", layer)'),
    by_camlib("camlib's formula", body(result='camlib.METHODS["grad_cam"].formula(A.detach(), G)')),
    by_camlib(
        "camlib's gradient",
        """
        from camlib.forward_pass import run_forward
        ran = run_forward(net, x, layer)
        return (ran.gradient([k] * len(x)).mean((2, 3), keepdim=True) * ran.features).sum(1)
        """,
    ),
    values("the probability is differentiated", target="logits.softmax(1)[:, k].sum()"),
    values("the log of the probability is differentiated", target="logits.log_softmax(1)[:, k].sum()"),
    values("the best class for the one asked", target="logits.amax(1).sum()"),
    values("all classes at once", target="logits.sum()"),
    values("always class 0", target="logits[:, 0].sum()"),
    values("mean over the batch", target="logits[:, k].mean()"),
    values("only the first picture", target="logits[0, k]"),
    values("negative cells cut", result="(G.mean((2, 3), keepdim=True) * A).sum(1).clamp(min=0).detach()"),
    values("each map divided by its maximum", result=f"(lambda m: m / m.amax((1, 2), keepdim=True))({MAP})"),
    values("max(h, 0) / max(h)", result=f"(lambda m: m.clamp(min=0) / m.amax((1, 2), keepdim=True))({MAP})"),
    values("sum of the gradient for its mean", result="(G.sum((2, 3), keepdim=True) * A).sum(1).detach()"),
    values("each cell its own gradient: HiResCAM", result="(G * A).sum(1).detach()"),
    values("positive gradients only: LayerCAM", result="(G.clamp(min=0) * A).sum(1).detach()"),
    values("the gradient without its sign", result="(G.abs().mean((2, 3), keepdim=True) * A).sum(1).detach()"),
    values("mean over the pictures too", result="(G.mean((0, 2, 3), keepdim=True) * A).sum(1).detach()"),
    values("mean over the channels", result="(G.mean(1, keepdim=True) * A).sum(1).detach()"),
    values("no gradient at all", result="A.sum(1).detach()"),
    values("one map for the batch", result=f"{MAP}[0]"),
    values("the channels' axis is kept", result="(G.mean((2, 3), keepdim=True) * A).sum(1, keepdim=True).detach()"),
    wrong(
        "mean over the channels' products",
        "grad_cam",
        body(result="(G.mean((2, 3), keepdim=True) * A).mean(1).detach()"),
        test_values=2,
        test_layers=1,
    ),
    wrong("the graph stays", "grad_cam", body(result="(G.mean((2, 3), keepdim=True) * A).sum(1)"), test_values=2),
    wrong("overwritten by the ReLU in place", "grad_cam", body(look=OWN_HOOK), test_layers=1),
    wrong(
        "a layer within a layer is not found",
        "grad_cam",
        body(look=OWN_HOOK.replace("net.get_submodule(layer)", "net._modules[layer]")),
        test_layers=1,
    ),
    wrong(
        "the outermost layer for the one asked",
        "grad_cam",
        body(look='layer = layer.split(".")[0]' + LOOK),
        test_layers=1,
    ),
    wrong(
        "the hook is never removed",
        "grad_cam",
        body(look=OWN_HOOK.replace("handle.remove()", "A = None").replace("A=out)", "A=out)")),
        test_layers=1,
        test_no_trace=1,
    ),
    wrong(
        "removes everybody's hooks",
        "grad_cam",
        body(after=AFTER + "\nfor m in net.modules():\n    m._forward_hooks.clear()"),
        test_no_trace=1,
    ),
    wrong(
        "backward leaves gradients",
        "grad_cam",
        body(gradient="A.retain_grad()\n(TARGET).backward()\nG = A.grad\n"),
        test_no_trace=1,
    ),
    wrong(
        "zero_grad afterwards takes others' gradients",
        "grad_cam",
        body(gradient="A.retain_grad()\n(TARGET).backward()\nG = A.grad\nnet.zero_grad()\n"),
        test_no_trace=1,
    ),
    wrong("left in evaluation mode", "grad_cam", body(after=""), test_no_flag=1),
    wrong("put into training mode", "grad_cam", body(after="\nnet.train()\n"), test_no_flag=1),
    wrong(
        "one flag for all modules",
        "grad_cam",
        body(before="was = net.training\nnet.eval()\n", after="\nnet.train(was)\n"),
        test_no_flag=1,
    ),
    wrong("explained in training mode", "grad_cam", body(before="", after=""), test_no_flag=1),
    wrong("x requires a gradient now", "grad_cam", body(before="x.requires_grad_()\n" + BEFORE), test_no_flag=1),
    wrong(
        "the parameters are frozen",
        "grad_cam",
        body(before="net.requires_grad_(False)\nx = x.clone().requires_grad_()\n" + BEFORE),
        test_no_flag=1,
    ),
    wrong("nothing returned", "hires_cam", "(gradient * features).sum(1)", test_hires_cam=1),
    wrong(
        "that is Grad-CAM",
        "hires_cam",
        "return (gradient.mean((2, 3), keepdim=True) * features).sum(1)",
        test_hires_cam=1,
    ),
    wrong("that is LayerCAM", "hires_cam", "return (gradient.clamp(min=0) * features).sum(1)", test_hires_cam=1),
    wrong("negative cells cut", "hires_cam", "return (gradient * features).sum(1).relu()", test_hires_cam=1),
    wrong("mean over the channels", "hires_cam", "return (gradient * features).mean(1)", test_hires_cam=1),
    wrong("summed over the pictures", "hires_cam", "return (gradient * features).sum(0)", test_hires_cam=1),
    wrong("the features are overwritten", "hires_cam", "return features.mul_(gradient).sum(1)", test_hires_cam=1),
    wrong(
        "Grad-CAM's own unit",
        "cam_from_gradient",
        "return camlib.grad_cam(net, x, k, layer)[0]",
        test_cam_from_gradient=1,
    ),
    wrong(
        "49 cells, whatever the photo",
        "cam_from_gradient",
        "return 49 * camlib.grad_cam(net, x, k, layer)[0]",
        test_cam_from_gradient=1,
    ),
    wrong(
        "times one side",
        "cam_from_gradient",
        "m = camlib.grad_cam(net, x, k, layer)[0]\nreturn len(m) * m",
        test_cam_from_gradient=1,
    ),
    wrong(
        "negative cells cut",
        "cam_from_gradient",
        "m = camlib.grad_cam(net, x, k, layer, relu=True)[0]\nreturn m.numel() * m",
        test_cam_from_gradient=1,
    ),
    wrong(
        "stretched to 0..1",
        "cam_from_gradient",
        "m = camlib.grad_cam(net, x, k, layer)[0]\nreturn (m - m.min()) / (m.max() - m.min())",
        test_cam_from_gradient=1,
    ),
    wrong(
        "another layer",
        "cam_from_gradient",
        'm = camlib.grad_cam(net, x, k, "blocks.6")[0]\nreturn m.numel() * m',
        test_cam_from_gradient=1,
    ),
    wrong(
        "the best class for the one asked",
        "cam_from_gradient",
        "k = net(x).argmax().item()\nm = camlib.grad_cam(net, x, k, layer)[0]\nreturn m.numel() * m",
        test_cam_from_gradient=1,
    ),
    wrong(
        "the last layer taken for the whole head",
        "two_layers",
        """
        maps = torch.einsum("c,bchw->bhw", last.weight[k], features).detach()
        return maps, last.bias[k].detach().expand(len(features))
        """,
        test_two_layer_maps=2,
        test_two_layer_rest=1,
    ),
    wrong(
        "the ReLU forgotten",
        "two_layers",
        head("> 0", "> -torch.inf"),
        test_two_layer_maps=2,
        test_two_layer_rest=1,
    ),
    wrong(
        "the first picture's gates for all",
        "two_layers",
        head("> 0", "> 0\n    is_open = is_open[:1].expand(len(features), -1)"),
        test_two_layer_maps=2,
        test_two_layer_rest=1,
    ),
    wrong(
        "gates by a sum for GAP's mean",
        "two_layers",
        head("features.mean((2, 3))", "features.sum((2, 3))"),
        test_two_layer_maps=2,
        test_two_layer_rest=1,
    ),
    wrong(
        "gates without the biases",
        "two_layers",
        head("hidden(features.mean((2, 3))) > 0", "features.mean((2, 3)) @ hidden.weight.T > 0"),
        test_two_layer_maps=2,
        test_two_layer_rest=1,
    ),
    wrong(
        "weights of shut units cut by their sign",
        "two_layers",
        head("last.weight[k] * is_open", "last.weight[k].clamp(min=0) * is_open"),
        test_two_layer_maps=2,
        test_two_layer_rest=1,
    ),
    wrong("always class 0", "two_layers", "k = 0" + head(), test_two_layer_maps=2, test_two_layer_rest=1),
    wrong("the pair swapped", "two_layers", head(result="rest, maps"), test_two_layer_maps=2, test_two_layer_rest=1),
    wrong("only the maps", "two_layers", head(result="maps"), test_two_layer_maps=2, test_two_layer_rest=1),
    wrong("Grad-CAM's unit", "two_layers", head(result="maps / features[0, 0].numel(), rest"), test_two_layer_maps=2),
    wrong("negative cells cut", "two_layers", head(result="maps.relu(), rest"), test_two_layer_maps=2),
    wrong(
        "a gate for each cell",
        "two_layers",
        head(
            "maps = torch",
            'cells = torch.einsum("dc,bchw->bdhw", hidden.weight, features) + hidden.bias[:, None, None]\n'
            '    maps = torch.einsum("d,bdhw->bhw", last.weight[k], cells.relu())\n    unused = torch',
        ),
        test_two_layer_maps=2,
    ),
    wrong(
        "the graph stays",
        "two_layers",
        head("torch.no_grad()", "torch.enable_grad()"),
        test_two_layer_maps=2,
        test_two_layer_rest=1,
    ),
    wrong(
        "the last bias only",
        "two_layers",
        head("last.bias[k] + gated @ hidden.bias", "last.bias[k].detach().expand(len(features))"),
        test_two_layer_rest=1,
    ),
    wrong(
        "shut units' biases too",
        "two_layers",
        head("gated @ hidden.bias", "(last.weight[k] @ hidden.bias).expand(len(features))"),
        test_two_layer_rest=1,
    ),
    wrong("hidden biases only", "two_layers", head("last.bias[k] + ", ""), test_two_layer_rest=1),
    wrong("one rest for all pictures", "two_layers", head(result="maps, rest[:1]"), test_two_layer_rest=1),
]

RIGHT = [
    right(
        "an own hook that hands a copy on",
        "grad_cam",
        body(
            look="""
kept = {}
def keep(module, args, output):
    kept["A"] = output
    return output.clone()
with net.get_submodule(layer).register_forward_hook(keep):
    logits = net(x)
A = kept["A"]
"""
        ),
    ),
    right(
        "a copy of the network",
        "grad_cam",
        """
        from copy import deepcopy
        net = deepcopy(net).eval()
        kept = {}
        def keep(module, args, output):
            kept["A"] = output
            output.retain_grad()
            return output.clone()
        net.get_submodule(layer).register_forward_hook(keep)
        net(x)[:, k].sum().backward()
        A = kept["A"]
        return torch.einsum("bc,bchw->bhw", A.grad.mean((2, 3)), A).detach()
        """,
    ),
    right(
        "one picture after the other",
        "grad_cam",
        f"""
{BEFORE}
maps = []
for one in x:
    with camlib.capture(net, layer, live=True) as seen:
        logit = net(one[None])[0, k]
    A = seen[layer]
    (G,) = torch.autograd.grad(logit, A)
    m = torch.zeros(A.shape[2:])
    for c in range(A.shape[1]):
        m += G[0, c].mean() * A[0, c].detach()
    maps.append(m)
{AFTER}
return torch.stack(maps)
""",
    ),
    right(
        "graph only behind the layer",
        "grad_cam",
        """
        from camlib.network import eval_mode
        with eval_mode(net), torch.no_grad(), camlib.capture(net, layer, live=True) as seen:
            logits = net(x)
        A = seen[layer]
        (G,) = torch.autograd.grad(logits, A, torch.eye(logits.shape[1])[k].expand_as(logits))
        B, C, h, w = A.shape
        return (G.mean((2, 3))[:, None] @ A.detach().reshape(B, C, h * w)).reshape(B, h, w)
        """,
    ),
    right(
        "a zero is added to the layer's output, and differentiated",
        "grad_cam",
        body(
            look="""
kept = {}
def shift(module, args, output):
    kept["zero"] = torch.zeros_like(output, requires_grad=True)
    kept["A"] = output.detach().clone()
    return output + kept["zero"]
handle = net.get_submodule(layer).register_forward_hook(shift)
try:
    logits = net(x)
finally:
    handle.remove()
A = kept["A"]
""",
            gradient="(G,) = torch.autograd.grad(TARGET, kept['zero'])\n",
        ),
    ),
    right(
        "a contrast of classes that cancels out",
        "grad_cam",
        body(target="(2 * logits[:, k] - logits.gather(1, torch.full((len(x), 1), k))[:, 0]).sum()"),
    ),
    right("einsum", "hires_cam", 'return torch.einsum("bchw,bchw->bhw", features, gradient)'),
    right(
        "a loop",
        "hires_cam",
        "return torch.stack([sum(g * f for g, f in zip(*pair)) for pair in zip(gradient, features)])",
    ),
    right("camlib", "hires_cam", "return camlib.METHODS['hires_cam'].formula(features, gradient)"),
    right(
        "HiResCAM, the same after GAP",
        "cam_from_gradient",
        "m = camlib.hires_cam(net, x, k, layer)[0]\nreturn m.shape[0] * m.shape[1] * m",
    ),
    right(
        "the gradient's sum for its mean",
        "cam_from_gradient",
        """
        with camlib.capture(net, layer, live=True) as seen:
            logit = net(x)[0, k]
        (G,) = torch.autograd.grad(logit, seen[layer])
        return torch.einsum("c,chw->hw", G[0].sum((1, 2)), seen[layer][0]).detach()
        """,
    ),
    right("the own function", "cam_from_gradient", "m = grad_cam(net, layer, x, k)[0]\nreturn m.numel() * m"),
    right(
        "by a gradient",
        "two_layers",
        """
        A = features.detach().clone().requires_grad_()
        logit = last(torch.relu(hidden(A.mean((2, 3)))))[:, k]
        (G,) = torch.autograd.grad(logit.sum(), A)
        maps = (A[0, 0].numel() * G.mean((2, 3), keepdim=True) * A).sum(1).detach()
        return maps, logit.detach() - maps.mean((1, 2))
        """,
    ),
    right(
        "by HiResCAM",
        "two_layers",
        """
        A = features.detach().clone().requires_grad_()
        logit = last(hidden(A.mean((2, 3))).relu())[:, k]
        (G,) = torch.autograd.grad(logit.sum(), A)
        return hires_cam(A, G).detach() * A[0, 0].numel(), (logit - (G * A).sum((1, 2, 3))).detach()
        """,
    ),
    right(
        "by camlib",
        "two_layers",
        """
        net = nn.Sequential(nn.Identity(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), hidden, nn.ReLU(), last)
        maps = features[0, 0].numel() * camlib.grad_cam(net, features, k, layer="0")
        return maps, net(features)[:, k].detach() - maps.mean((1, 2))
        """,
    ),
    right(
        "unit by unit",
        "two_layers",
        """
        maps, rest = torch.zeros(len(features), *features.shape[2:]), torch.zeros(len(features))
        for b, one in enumerate(features):
            rest[b] = last.bias[k].item()
            for d in range(len(hidden.bias)):
                height = (hidden.weight[d] @ one.mean((1, 2)) + hidden.bias[d]).item()
                if height > 0:
                    rest[b] += (last.weight[k, d] * hidden.bias[d]).item()
                    for c in range(len(one)):
                        maps[b] += (last.weight[k, d] * hidden.weight[d, c]).item() * one[c]
        return maps, rest
        """,
    ),
]
