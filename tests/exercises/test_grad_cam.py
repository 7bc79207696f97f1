"""Every known mistake in the exercise on Grad-CAM loses its points, and no right answer loses any."""

import textwrap
from importlib.util import find_spec

from tests.exercises.grading import peeking, right, wrong

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
try:
    logits = net(x.clone().requires_grad_())
finally:
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
    steps = textwrap.indent(f"{look}{gradient.replace('TARGET', target)}", "    ")
    return f"{before}\ntry:\n{steps}\nfinally:\n    {textwrap.indent(after, '    ').strip() or 'pass'}\nreturn {result}"


def values(what: str, **changed: str):
    """A mistake in the numbers: it costs the values' points, whichever layer is asked."""
    return wrong(what, "grad_cam", body(**changed), test_values=2, test_layers=1)


FIRST_ALIKE = "next(name for name, _ in net.named_modules() if name.startswith(layer))"


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


def costs(
    what: str, code: str = "", values: float = 0, layers: float = 0, trace: float = 0, flag: float = 0, **changed: str
):
    """A mistake in grad_cam with the points that it costs."""
    lost = {"test_values": values, "test_layers": layers, "test_no_trace": trace, "test_no_flag": flag}
    return wrong(what, "grad_cam", code or body(**changed), **{cell: points for cell, points in lost.items() if points})


def copied(before: str = "", mode: str = ".eval()") -> str:
    """A right answer on a copy of the network."""
    return f"""
from copy import deepcopy
{before}
net, kept = deepcopy(net){mode}.requires_grad_(True), {{}}
def keep(module, args, output):
    kept["A"] = output
    return output.clone()
net.get_submodule(layer).register_forward_hook(keep)
(G,) = torch.autograd.grad(net(x)[:, k].sum(), kept["A"])
return (G.mean((2, 3), keepdim=True) * kept["A"]).sum(1).detach()
"""


def whole(body_of: str, first: str = "def grad_cam(net, layer, x, k):", above: str = "") -> str:
    """A whole cell: what stands above the function, then the function."""
    return above + "\n\n" + first + "\n" + textwrap.indent(textwrap.dedent(body_of).strip(), "    ")


def from_gradient(what: str, code: str):
    return wrong(what, "cam_from_gradient", code, test_cam_from_gradient=1)


def times_n(m: str, before: str = "") -> str:
    return f"{before}\nm = {m}\nreturn m.numel() * m"


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
    wrong(
        "a hook stays on each parameter",
        "grad_cam",
        body(after=AFTER + "[p.register_post_accumulate_grad_hook(id) for p in net.parameters() if p.requires_grad]"),
        test_no_trace=1,
    ),
    wrong(
        "BatchNorm's momentum is set to 0",
        "grad_cam",
        body(before=BEFORE + "[vars(m).update(momentum=0) for m in net.modules() if 'momentum' in vars(m)]"),
        test_no_trace=1,
    ),
    wrong("left in evaluation mode", "grad_cam", body(after=""), test_no_flag=1),
    wrong("put into training mode", "grad_cam", body(after="\nnet.train()\n"), test_no_trace=1, test_no_flag=1),
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
        test_no_trace=1,
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
    # traces and modes
    costs("a copy in the mode in which it came", copied(mode=""), flag=1),
    costs(
        "in training mode, statistics put back",
        flag=1,
        before="from copy import deepcopy\nold = deepcopy(net.state_dict())\n",
        after="\nnet.load_state_dict(old)\n",
    ),
    costs("a copy in training mode", copied(mode=".train()"), layers=0, flag=1),
    costs(
        "only BatchNorm in evaluation mode",
        flag=1,
        before=BEFORE.replace(
            "net.eval()",
            """
for m in net.modules():
    m.training = m.training and not isinstance(m, nn.BatchNorm2d)
""",
        ),
    ),
    costs("only the network's own flag", flag=1, before=BEFORE.replace("net.eval()", "net.training = False")),
    costs(
        "a network that says eval is believed",
        flag=1,
        before=BEFORE.replace("net.eval()", "if net.training:\n    net.eval()"),
    ),
    costs("flags of the children only put back", flag=1, before=BEFORE.replace("net.modules()", "net.children()")),
    costs(
        "flags put back, but not after an exception",
        BEFORE + LOOK + GRADIENT.replace("TARGET", LOGIT) + AFTER + "\nreturn " + MAP,
        flag=1,
    ),
    costs(
        "the exception is swallowed",
        "try:\n" + textwrap.indent(body(), "    ") + "\nexcept Exception:\n    return None",
        trace=1,
        flag=1,
    ),
    costs(
        "another exception",
        "try:\n" + textwrap.indent(body(), "    ") + "\nexcept Exception as e:\n    raise ValueError from e",
        trace=1,
        flag=1,
    ),
    costs(
        "the stop button is swallowed",
        "try:\n" + textwrap.indent(body(), "    ") + "\nexcept KeyboardInterrupt:\n    return torch.zeros(2, 3, 6)",
        trace=1,
        flag=1,
    ),
    costs(
        "a hook on all modules is never removed",
        trace=1,
        look="""
kept = {}
def keep(m, args, out):
    if m is net.get_submodule(layer):
        kept["A"] = out.requires_grad_() if not out.requires_grad else out
        return kept["A"].clone()
torch.nn.modules.module.register_module_forward_hook(keep)
logits = net(x)
A = kept["A"]
""",
    ),
    costs(
        "forward wrapped, never put back",
        trace=1,
        look="""
kept, target = {}, net.get_submodule(layer)
forward = target.forward
def wrapped(*args):
    kept["A"] = forward(*args)
    kept["A"] = kept["A"] if kept["A"].requires_grad else kept["A"].requires_grad_()
    return kept["A"].clone()
target.forward = wrapped
logits = net(x)
A = kept["A"]
""",
    ),
    costs(
        "in-place steps switched off for good",
        trace=1,
        before=BEFORE + "\nfor m in net.modules():\n    if hasattr(m, 'inplace'):\n        m.inplace = False\n",
    ),
    costs(
        "gradients switched off at the end",
        values=0,
        trace=1,
        after=AFTER + "\ntorch.set_grad_enabled(False)\n",
        look="torch.set_grad_enabled(True)\n" + LOOK,
    ),
    costs("the map kept in the network", trace=1, flag=1, after=AFTER + "\nnet.A = A\n"),
    costs("a backward hook stays", trace=1, after=AFTER + "\nnet.register_full_backward_hook(lambda *a: None)\n"),
    costs(
        "x gets a gradient",
        trace=1,
        gradient="A.retain_grad()\nold = [p.grad for p in net.parameters()]\n"
        "(TARGET).backward()\nG = A.grad\nfor p, g in zip(net.parameters(), old):\n    p.grad = g\n",
        look=LOOK.replace("net(x)", "net(x) + 0 * x.sum()"),
    ),
    costs(
        "gradients that were there grow",
        trace=1,
        gradient="""
A.retain_grad()
had = [p.grad is not None for p in net.parameters()]
torch.autograd.backward(TARGET, inputs=[A, *[p for p in net.parameters() if p.requires_grad]])
G = A.grad
for p, h in zip(net.parameters(), had):
    p.grad = p.grad if h else None
""",
    ),
    costs("x no longer requires a gradient", trace=1, after=AFTER + "\nx.requires_grad_(False)\n"),
    costs(
        "x is normalised in place",
        values=2,
        trace=1,
        flag=1,
        before="with torch.no_grad():\n    x.mul_(1.0001)" + BEFORE,
    ),
    costs(
        "frozen parameters are refused",
        layers=1,
        before="assert all(p.requires_grad for p in net.parameters())" + BEFORE,
    ),
    costs("frozen parameters thaw", layers=1, before="net.requires_grad_(True)" + BEFORE),
    costs(
        "a graph only if the parameters have one",
        layers=1,
        look=LOOK.replace(", live=True", "")
        .replace(
            "with camlib",
            "kept = {}\nh = net.get_submodule(layer).register_forward_hook(lambda m, i, o: (kept.update(A=o), "
            "o.clone())[1])\nwith h, camlib",
        )
        .replace("A = seen[layer]", "A = kept['A']"),
    ),
    costs(
        "a square map is expected",
        values=2,
        layers=1,
        trace=1,
        flag=1,
        result=MAP + ".reshape(len(x), *2 * [int((A[0, 0].numel()) ** 0.5)])",
    ),
    costs("no work at all", "return torch.zeros(len(x), *x.shape[2:])", values=2, layers=1, trace=1, flag=1),
    costs(
        "the channel with the largest weight",
        values=2,
        layers=1,
        result="A[range(len(A)), G.mean((2, 3)).argmax(1)].detach()",
    ),
    values(
        "weights normalised over the channels", result="(G.mean((2, 3), keepdim=True).softmax(1) * A).sum(1).detach()"
    ),
    values(
        "the median of the gradient", result="(G.flatten(2).median(2).values[:, :, None, None] * A).sum(1).detach()"
    ),
    values(
        "features of mean zero",
        result="(G.mean((2, 3), keepdim=True) * (A - A.mean((2, 3), keepdim=True))).sum(1).detach()",
    ),
    values("the features' sign", result="(G.mean((2, 3), keepdim=True) * A.sign()).sum(1).detach()"),
    values("logit less the other logits", target="(2 * logits[:, k] - logits.sum(1)).sum()"),
    values("the logit squared", target="(logits[:, k] ** 2).sum()"),
    values("rounded", result=MAP + ".round(decimals=1)"),
    values("turned upside down", result=MAP + ".flip(1, 2)"),
    values("unit of CAM", result=f"A[0, 0].numel() * {MAP}"),
    values("eight bits", result=f"(lambda m: (m / m.abs().max() * 127).round() / 127 * m.abs().max())({MAP})"),
    # what is to be written by hand, left to camlib
    by_camlib(
        "camlib, kept under other names",
        whole(
            """
        with patch("camlib.gradcam.look", _look, create=True), patch.dict("camlib.METHODS", _all):
            return _map(net, x, k, layer)
        """,
            above="from unittest.mock import patch\n_map, _all = camlib.grad_cam, dict(camlib.METHODS)\n"
            "_look = getattr(camlib.gradcam, 'look', None)",
        ),
    ),
    by_camlib(
        "camlib, kept as a default",
        whole("return kept[0](net, x, k, layer)", "def grad_cam(net, layer, x, k, kept=[camlib.grad_cam]):"),
    ),
    by_camlib(
        "camlib, in a partial",
        whole("return own(net, x, k, layer)", above="from functools import partial\nown = partial(camlib.grad_cam)"),
    ),
    by_camlib(
        "camlib's gradient, kept early",
        whole(
            """
        from camlib.forward_pass import run_forward
        ran = run_forward(net, x, layer)
        return (raw(ran, [k] * len(x)).mean((2, 3), keepdim=True) * ran.features).sum(1)
        """,
            above="from camlib.forward_pass import ForwardPass\nraw = ForwardPass.raw_gradient",
        ),
    ),
    *[
        by_camlib(f"another library: {library}", code)
        for library, code in {
            "captum": """
                from captum.attr import LayerGradCam
                return LayerGradCam(net.eval(), net.get_submodule(layer)).attribute(x, k, relu_attributions=False)[:, 0]
                """,
            "pytorch_grad_cam": """
                from pytorch_grad_cam import GradCAM
                from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget as Target
                return GradCAM(net.eval(), [net.get_submodule(layer)])(x, [Target(k)] * len(x))
                """,
        }.items()
        if find_spec(library)
    ],
    by_camlib("camlib's HiResCAM", "return camlib.hires_cam(net, x, k, layer)"),
    by_camlib(
        "an explanation by camlib",
        """
        return torch.stack([camlib.gradient_map(net, one[None], k, "grad_cam", layer)[0] for one in x])""",
    ),
    # the other tasks
    *[
        wrong(what, "hires_cam", f"return {code}", test_hires_cam=1)
        for what, code in {
            "features alone": "features.sum(1)",
            "gradient alone": "gradient.sum(1)",
            "added": "(gradient + features).sum(1)",
            "largest channel": "(gradient * features).amax(1)",
            "without its sign": "(gradient * features).sum(1).abs()",
            "gradient without its sign": "(gradient.abs() * features).sum(1)",
            "channels' axis kept": "(gradient * features).sum(1, keepdim=True)",
            "without the batch": "(gradient * features).sum(1)[0]",
            "scaled to the maximum": "(lambda m: m / m.abs().amax())((gradient * features).sum(1))",
            "all channels' gradients": "(gradient.mean(1, keepdim=True) * features).sum(1)",
            "h and w swapped": "(gradient * features).sum(1).mT",
            "sum over the cells": "(gradient * features).sum((2, 3))",
            "a positive part of both": "(gradient.relu() * features.relu()).sum(1)",
        }.items()
    ],
    wrong("the gradient is overwritten", "hires_cam", "gradient *= features\nreturn gradient.sum(1)", test_hires_cam=1),
    wrong(
        "the features require a gradient now",
        "hires_cam",
        "features.requires_grad_()\nreturn (gradient * features).sum(1)",
        test_hires_cam=1,
    ),
    from_gradient(
        "by the classifier's weights",
        """
        with torch.no_grad(), camlib.capture(net, layer) as seen:
            net(x)
        return torch.einsum("c,chw->hw", clf.head.weight[k], seen[layer][0])""",
    ),
    from_gradient(
        "by the last linear layer",
        """
        with torch.no_grad(), camlib.capture(net, layer) as seen:
            net(x)
        last = [m for m in net.modules() if isinstance(m, nn.Linear)][-1]
        return torch.einsum("c,chw->hw", last.weight[k].detach(), seen[layer][0])""",
    ),
    from_gradient(
        "by the first linear layer that fits",
        """
        from camlib.network import eval_mode
        with torch.no_grad(), eval_mode(net), camlib.capture(net, layer) as seen:
            net(x)
        fits = [m for m in net.modules() if isinstance(m, nn.Linear) and m.in_features == seen[layer].shape[1]]
        return torch.einsum("c,chw->hw", fits[0].weight[k].detach(), seen[layer][0])""",
    ),
    from_gradient(
        "by the weights and biases that give the logits",
        """
        from copy import deepcopy
        twin = deepcopy(net).eval()
        with torch.no_grad(), camlib.capture(twin, layer) as seen:
            logits = twin(x)[0]
        A = seen[layer][0]
        tables = [t for p in twin.parameters() for t in (p.detach().flatten(1), p.detach().flatten(1).T) if p.ndim > 1]
        for W in (t for t in tables if t.shape == (len(logits), len(A))):
            for b in (p.detach() for p in twin.parameters() if p.shape == logits.shape):
                if torch.allclose(W @ A.mean((1, 2)) + b, logits, atol=1e-4):
                    return torch.einsum("c,chw->hw", W[k], A)""",
    ),
    from_gradient("network and layer are ignored", times_n("camlib.grad_cam(clf.module, x, k, clf.head.layer)[0]")),
    from_gradient("the layer is ignored", times_n("camlib.grad_cam(net, x, k, clf.head.layer)[0]")),
    from_gradient(
        "cells of 32 pixels", "return (x.shape[2] // 32) * (x.shape[3] // 32) * camlib.grad_cam(net, x, k, layer)[0]"
    ),
    from_gradient("cells of the window", "return x[0, 0].numel() * camlib.grad_cam(net, x, k, layer)[0]"),
    from_gradient("the square of the height", "m = camlib.grad_cam(net, x, k, layer)[0]\nreturn m.shape[0] ** 2 * m"),
    from_gradient("left in training mode", "net.train()\n" + times_n("camlib.grad_cam(net, x, k, layer)[0]")),
    from_gradient("gradients are left", "net(x)[0, k].backward()\n" + times_n("camlib.grad_cam(net, x, k, layer)[0]")),
    from_gradient(
        "with the bias", times_n("camlib.grad_cam(net, x, k, layer)[0]").replace("* m", "* m + clf.head.bias[k]")
    ),
    from_gradient(
        "in training mode",
        times_n(
            "grad[0]",
            """
with camlib.capture(net, layer, live=True) as seen:
    logit = net(x)[0, k]
(G,) = torch.autograd.grad(logit, seen[layer])
grad = (G.mean((2, 3), keepdim=True) * seen[layer]).sum(1).detach()""",
        ),
    ),
    from_gradient(
        "scaled to the logit",
        """
        m = camlib.grad_cam(net, x, k, layer)[0]
        return m / m.mean() * net(x)[0, k].detach()""",
    ),
    from_gradient("the batch's axis kept", times_n("camlib.grad_cam(net, x, k, layer)")),
    from_gradient("only positive evidence", times_n("camlib.layer_cam(net, x, k, layer)[0]")),
    from_gradient(
        "on a square photo",
        """
        side = min(x.shape[2:])
        m = camlib.grad_cam(net, x[:, :, :side, :side], k, layer)[0]
        return m.numel() * m""",
    ),
    *[
        wrong(
            what,
            "two_layers",
            head(old, new, result),
            **{cell: n for cell, n in {"test_two_layer_maps": lost[0], "test_two_layer_rest": lost[1]}.items() if n},
        )
        for what, old, new, result, lost in [
            (
                "the row of hidden for last",
                "last.weight[k] * is_open",
                "last.weight[0] * is_open",
                "maps, rest",
                (2, 1),
            ),
            (
                "the weights without their sign",
                "hidden.weight, features",
                "hidden.weight.abs(), features",
                "maps, rest",
                (2, 0),
            ),
            ("open where negative", "> 0", "< 0", "maps, rest", (2, 1)),
            (
                "soft gates",
                "hidden(features.mean((2, 3))) > 0",
                "hidden(features.mean((2, 3))).sigmoid()",
                "maps, rest",
                (2, 1),
            ),
            ("gates by the largest cell", "features.mean((2, 3))", "features.amax((2, 3))", "maps, rest", (2, 1)),
            (
                "gates for the batch's mean",
                "features.mean((2, 3))",
                "features.mean((0, 2, 3))[None].expand(len(features), -1)",
                "maps, rest",
                (2, 1),
            ),
            ("divided by the open units", "", "", "maps / is_open.sum(1)[:, None, None].clamp(min=1), rest", (2, 0)),
            ("mean over the maps for the rest", "", "", "maps, maps.mean((1, 2))", (0, 1)),
            (
                "the logit for the rest",
                "",
                "",
                "maps, last(hidden(features.mean((2, 3))).relu())[:, k].detach()",
                (0, 1),
            ),
            ("the rest with the wrong sign", "", "", "maps, -rest", (0, 1)),
            ("the rest as a column", "", "", "maps, rest[:, None]", (0, 1)),
            ("the first picture's rest", "", "", "maps, rest[:1].expand(len(rest))", (0, 1)),
            ("the first picture's map", "", "", "maps[:1].expand_as(maps), rest", (2, 0)),
            ("maps of mean zero", "", "", "maps - maps.mean((1, 2), keepdim=True), rest", (2, 0)),
            ("the map and the rest in one", "", "", "maps + rest[:, None, None], rest", (2, 0)),
            ("each class's bias", "last.bias[k]", "last.bias.sum()", "maps, rest", (0, 1)),
            ("a dictionary", "", "", "dict(maps=maps, rest=rest)", (2, 1)),
            ("the layers are frozen", "", "", "(hidden.requires_grad_(False), (maps, rest))[1]", (2, 0)),
            (
                "the layers' weights are cut",
                "with torch.no_grad():",
                "with torch.no_grad():\n    last.weight.clamp_(min=0)",
                "maps, rest",
                (2, 1),
            ),
            (
                "positive features only",
                'bchw->bhw", gated, hidden.weight, features',
                'bchw->bhw", gated, hidden.weight, features.relu()',
                "maps, rest",
                (2, 0),
            ),
        ]
    ],
    wrong(
        "gradients stay in the layers",
        "two_layers",
        head().replace("return maps", "last(hidden(features.mean((2, 3))).relu()).sum().backward()\nreturn maps"),
        test_two_layer_maps=2,
        test_two_layer_rest=1,
    ),
    peeking(
        "grad_cam",
        "(len(x), *x.shape[2:])",
        "torch.tensor([[[2.0] * 3], [[6.0 - 8 * k] * 3]]) if x.shape == (2, 3, 1, 3)"
        " else torch.zeros(len(x), *x.shape[2:])",
        test_values=2,
        test_layers=1,
        test_no_trace=1,
        test_no_flag=1,
    ),
    peeking("hires_cam", "(len(features), *features.shape[2:])", "torch.tensor([[[7.0, -2.0]]])", test_hires_cam=1),
    by_camlib(
        "torchcam's weights",
        """
        from torchcam.methods import GradCAM
        net = deepcopy(net).eval()
        for module in net.modules():
            if hasattr(module, "inplace"):
                module.inplace = False
        with GradCAM(net, net.get_submodule(layer), input_shape=tuple(x.shape[1:])) as cam:
            logits = net(x.clone().requires_grad_())
            weights = cam._get_weights(k, logits)[0]
            return (weights[..., None, None] * cam.hook_a[0]).sum(1).detach()
        """,
    ),
    costs(
        "the first layer whose name begins the same",
        layers=1,
        look=LOOK.replace("net, layer", f"net, {FIRST_ALIKE}").replace("seen[layer]", "next(iter(seen.values()))"),
    ),
    costs("anomaly detection stays on", trace=1, before="torch.autograd.set_detect_anomaly(True)\n" + BEFORE),
    from_gradient(
        "the classifier that camlib finds",
        """
        net = deepcopy(net).eval()
        head = camlib.find_head(net, x)
        return torch.einsum("c,chw->hw", head.weight[k], head.run(net, x)[0][0])
        """,
    ),
    from_gradient("camlib's map with every gate held", "return camlib.frozen_cam(net, x, k, layer).maps[0]"),
    from_gradient(
        "the weights that fit, wherever they are",
        """
        net = deepcopy(net).eval()
        with torch.no_grad(), camlib.capture(net, layer) as seen:
            logits = net(x)
        A = seen[layer][0]
        for module in net.modules():
            weight = getattr(module, "weight", None)
            if weight is not None and weight.numel() == logits.shape[1] * len(A):
                weight = weight.detach().reshape(-1, len(A))
                if (weight @ A.mean((1, 2)) + module.bias - logits[0]).abs().max() < 1e-3:
                    return torch.einsum("c,chw->hw", weight[k], A)
        return torch.zeros(7, 7)
        """,
    ),
    costs(
        "only BatchNorm and Dropout into evaluation mode",
        flag=1,
        before="""
training = {m: m.training for m in net.modules() if isinstance(m, (nn.BatchNorm2d, nn.Dropout))}
for m in training:
    m.eval()""",
    ),
    costs("the gradient of x is deleted", trace=1, after=AFTER + "x.grad = None"),
]

RIGHT = [
    right(
        "an own hook that hands a copy on",
        "grad_cam",
        body(
            look="""
kept = {}
def keep(module, args, output):
    kept["A"] = output = output if output.requires_grad else output.requires_grad_()
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
        net.requires_grad_(True).get_submodule(layer).register_forward_hook(keep)
        net(x.detach())[:, k].sum().backward()
        A = kept["A"]
        return torch.einsum("bc,bchw->bhw", A.grad.mean((2, 3)), A).detach()
        """,
    ),
    right(
        "one picture after the other",
        "grad_cam",
        """
        from camlib.network import eval_mode
        maps = []
        for one in x:
            with eval_mode(net), camlib.capture(net, layer, live=True) as seen:
                logit = net(one[None])[0, k]
            A = seen[layer]
            (G,) = torch.autograd.grad(logit, A)
            m = torch.zeros(A.shape[2:])
            for c in range(A.shape[1]):
                m += G[0, c].mean() * A[0, c].detach()
            maps.append(m)
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
        from camlib.network import eval_mode
        with eval_mode(net), camlib.capture(net, layer, live=True) as seen:
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
    right("in double precision, on a copy", "grad_cam", copied().replace("net(x)", "net.double()(x.double())")),
    right(
        "NumPy's sums",
        "grad_cam",
        body(
            result="(lambda A, G: sum(G[:, c].mean((1, 2))[:, None, None] * A[:, c] "
            "for c in range(A.shape[1])))(A.detach().numpy(), G.numpy())"
        ),
    ),
    right("a list of lists", "grad_cam", body(result=f"({MAP}).tolist()")),
    right(
        "a convolution for each picture",
        "grad_cam",
        body(
            look=LOOK + "flat = A.detach().reshape(1, -1, *A.shape[2:])\n",
            result="nn.functional.conv2d(flat, G.mean((2, 3))[:, :, None, None], groups=len(A))[0]",
        ),
    ),
    right(
        "a five-operand einsum",
        "grad_cam",
        body(
            result="torch.einsum('bchw,bcyx,,,->byx', G, A.detach(), "
            "torch.tensor(1.0), torch.tensor(1.0), torch.tensor(1 / G[0, 0].numel()))"
        ),
    ),
    right(
        "a full backward hook on a copy",
        "grad_cam",
        """
        from copy import deepcopy
        net, kept = deepcopy(net).eval().requires_grad_(True), {}
        for m in net.modules():
            if hasattr(m, "inplace"):
                m.inplace = False
        target = net.get_submodule(layer)
        target.register_forward_hook(lambda m, i, o: kept.update(A=o))
        target.register_full_backward_hook(lambda m, gi, go: kept.update(G=go[0]))
        net(x.detach())[:, k].sum().backward()
        return (kept["G"].mean((2, 3), keepdim=True) * kept["A"]).sum(1).detach()
        """,
    ),
    right(
        "a tensor's own hook",
        "grad_cam",
        copied()
        .replace('kept["A"] = output\n', 'kept["A"] = output\n    output.register_hook(lambda g: kept.update(G=g))\n')
        .replace(
            '(G,) = torch.autograd.grad(net(x)[:, k].sum(), kept["A"])',
            'net(x.detach())[:, k].sum().backward()\nG = kept["G"]',
        ),
    ),
    right(
        "in-place steps switched off for a while",
        "grad_cam",
        body(
            before=BEFORE
            + "\noff = [m for m in net.modules() if getattr(m, 'inplace', False)]\n"
            + "for m in off:\n    m.inplace = False\n",
            look=OWN_HOOK,
            after=AFTER + "\nfor m in off:\n    m.inplace = True\n",
        ),
    ),
    right(
        "a Jacobian of what lies behind",
        "grad_cam",
        body(
            look="with torch.no_grad(), camlib.capture(net, layer) as seen:\n    net(x)\nA = seen[layer].clone()\n",
            gradient="""
def behind(zero):
    with net.get_submodule(layer).register_forward_hook(lambda m, i, o: o.clone() + zero):
        return net(x.detach())[:, k].sum()
G = torch.autograd.functional.jacobian(behind, torch.zeros_like(A))
""",
        ),
    ),
    right(
        "torch.func.grad",
        "grad_cam",
        body(
            look="with torch.no_grad(), camlib.capture(net, layer) as seen:\n    net(x)\nA = seen[layer].clone()\n",
            gradient="""
def behind(zero):
    with net.get_submodule(layer).register_forward_hook(lambda m, i, o: o.clone() + zero):
        return net(x.detach())[:, k].sum()
G = torch.func.grad(behind)(torch.zeros_like(A))
""",
        ),
    ),
    right(
        "everything put back by load_state_dict",
        "grad_cam",
        body(
            before="from copy import deepcopy\nold = deepcopy(net.state_dict())" + BEFORE,
            after=AFTER + "\nnet.load_state_dict(old)\n",
        ),
    ),
    right(
        "a warning and a log",
        "grad_cam",
        body(before="import sys, warnings\nwarnings.warn('slow')\nprint('running', file=sys.stderr)" + BEFORE),
    ),
    right(
        "NumPy, in double precision",
        "hires_cam",
        """
        import numpy as np
        out = np.zeros((features.shape[0], *features.shape[2:]))
        for c in range(features.shape[1]):
            out += features[:, c].numpy() * gradient[:, c].numpy()
        return out""",
    ),
    right(
        "NumPy, as a tensor",
        "hires_cam",
        "return torch.from_numpy((features.numpy() * gradient.numpy()).astype('f8').sum(1))",
    ),
    right("a list", "hires_cam", "return (features * gradient).sum(1).tolist()"),
    right(
        "a matrix product for each cell",
        "hires_cam",
        """
        a, g = features.permute(0, 2, 3, 1), gradient.permute(0, 2, 3, 1)
        return (a[..., None, :] @ g[..., :, None])[..., 0, 0]""",
    ),
    right("vmap", "hires_cam", "return torch.vmap(lambda a, g: (a * g).sum(0))(features, gradient)"),
    right("in double precision", "cam_from_gradient", times_n("camlib.grad_cam(net, x, k, layer)[0].double()")),
    right("a NumPy array", "cam_from_gradient", times_n("camlib.grad_cam(net, x, k, layer)[0]") + ".numpy()"),
    right("in double precision", "two_layers", head(result="maps.double(), rest.double()")),
    right("NumPy arrays in a list", "two_layers", head(result="[maps.numpy(), rest.numpy()]")),
    right(
        "by masked weights",
        "two_layers",
        """
        maps, rest = [], []
        for one in features.detach():
            open_units = (hidden(one.mean((1, 2))) > 0).nonzero().flatten()
            w = last.weight[k, open_units] @ hidden.weight[open_units]
            maps.append(torch.tensordot(w, one, 1).detach())
            rest.append(float(last.bias[k] + last.weight[k, open_units] @ hidden.bias[open_units]))
        return torch.stack(maps), rest""",
    ),
    right(
        "the head as a network of its own, for camlib",
        "two_layers",
        """
        parts = nn.Identity(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), hidden, nn.ReLU(), last
        net = nn.Sequential(*parts)
        maps = features[0, 0].numel() * camlib.grad_cam(net, features, k, "0")
        with torch.no_grad():
            return maps, net(features)[:, k] - maps.mean((1, 2))
        """,
    ),
    right("its own Grad-CAM", "cam_from_gradient", "m = grad_cam(net, layer, x, k)[0]\nreturn len(m) * m.shape[1] * m"),
]
