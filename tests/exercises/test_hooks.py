"""Every known mistake in the exercise on hooks loses its points, and no right answer loses any."""

import textwrap

from tests.exercises.grading import peeking, right, wrong

COPY = "seen.append(o.detach().clone())"
PAIR = "seen.append((name, tuple(o.shape)))"


def every(
    hook: str = COPY, before: str = "", run: str = "net(x)", final: str = "handle.remove()", result: str = "seen"
) -> str:
    """A right every_output, of which each wrong one changes a step."""
    hook = f"lambda m, i, o: {hook}" if hook[0] != "!" else hook[1:]
    return f"""
seen, target = [], net.get_submodule(layer)
{before}
handle = target.register_forward_hook({hook})
try:
    {indented(run)}
finally:
    {indented(final)}
return {result}
"""


def order(
    hook: str = PAIR, before: str = "", find: str = "net.get_submodule(name)", run: str = "net(x)", result: str = "seen"
) -> str:
    """A right calls, of which each wrong one changes a step."""
    return f"""
seen, handles = [], []
{before}
try:
    for name in layers:
        handles.append({find}.register_forward_hook(lambda m, i, o, name=name: {hook}))
    {indented(run)}
finally:
    for handle in handles:
        handle.remove()
return {result}
"""


def evaluated(
    which: str = "net.modules()", off: str = "net.eval()", run: str = "return net(x)", back: str = "m.training = t"
) -> str:
    """A right eval_logits, of which each wrong one changes a step."""
    return f"""
flags = [(m, m.training) for m in {which}]
{off}
try:
    {indented(run)}
finally:
    for m, t in flags:
        {back}
"""


def miss(
    result: str = "abs(class_map.mean() + clf.head.bias[k] - logits[0, k]).item()",
    photo: str = "camlib.read_image(path)",
    k: str = "clf.index(label)",
    x: str = "clf.preprocess(photo, clf.view(photo))",
    class_map: str = 'torch.einsum("c,chw->hw", clf.head.weight[k], seen[layer][0])',
    before: str = "",
) -> str:
    """A right missed, of which each wrong one changes a step."""
    return f"""
k, photo = {k}, {photo}
x = {x}
{before}
with torch.no_grad(), camlib.capture(clf.module, layer) as seen:
    logits = clf.module(x)
class_map = {class_map}
return {result}
"""


def indented(code: str) -> str:
    return textwrap.indent(code, "    ").lstrip()


def output(what: str, values: float = 0, left: float = 0, **changed: str):
    lost = {"test_every_output": values, "test_nothing_left": left}
    return wrong(what, "every_output", every(**changed), **{cell: points for cell, points in lost.items() if points})


def ordered(what: str, values: float = 0, left: float = 0, **changed: str):
    lost = {"test_order": values, "test_order_hooks": left}
    return wrong(what, "calls", order(**changed), **{cell: points for cell, points in lost.items() if points})


def flagged(what: str, values: float = 0, left: float = 0, **changed: str):
    lost = {"test_eval_logits": values, "test_flags": left}
    return wrong(what, "eval_logits", evaluated(**changed), **{cell: points for cell, points in lost.items() if points})


def missing(what: str, **changed: str):
    return wrong(what, "missed", miss(**changed), test_missed=2)


GLOBAL = "torch.nn.modules.module.register_module_forward_hook"
GAP = "abs(class_map.mean() + clf.head.bias[k] - logits[0, k]).item()"
ROW_MAP = 'torch.einsum("c,chw->hw", clf.head.weight[k], seen[layer][0])'
NOISY = "(nn.Dropout, nn.BatchNorm1d, nn.BatchNorm2d)"
WRAPPED = """
forward = target.forward
def wrapped(*args):
    o = forward(*args)
    seen.append(o.detach().clone())
    return o
"""

WRONG = [
    # 1. every_output
    wrong(
        "nothing returned",
        "every_output",
        """
        seen = []
        handle = net.get_submodule(layer).register_forward_hook(lambda m, i, o: seen.append(o.detach().clone()))
        try:
            net(x)
        finally:
            handle.remove()
        """,
        test_every_output=2,
        test_nothing_left=2,
    ),
    wrong(
        "a new hook at every call, never removed",
        "every_output",
        """
        seen = []
        net.get_submodule(layer).register_forward_hook(lambda m, i, o: seen.append(o.detach().clone()))
        net(x)
        return seen[:]
        """,
        test_nothing_left=2,
    ),
    wrong(
        "removed, but not after an exception",
        "every_output",
        """
        seen = []
        handle = net.get_submodule(layer).register_forward_hook(lambda m, i, o: seen.append(o.detach().clone()))
        net(x)
        handle.remove()
        return seen
        """,
        test_nothing_left=2,
    ),
    wrong(
        "a class with remove(), which nobody calls",
        "every_output",
        """
        class Saved:
            def __init__(self, module):
                self.maps = []
                self.handle = module.register_forward_hook(self.hook)

            def hook(self, module, args, output):
                self.maps.append(output.detach().clone())

            def remove(self):
                self.handle.remove()

        saved = Saved(net.get_submodule(layer))
        net(x)
        return saved.maps[:]
        """,
        test_nothing_left=2,
    ),
    wrong(
        "the exception is swallowed",
        "every_output",
        """
        seen = []
        handle = net.get_submodule(layer).register_forward_hook(lambda m, i, o: seen.append(o.detach().clone()))
        try:
            net(x)
        except Exception:
            pass
        handle.remove()
        return seen
        """,
        test_nothing_left=2,
    ),
    wrong(
        "only one kind of exception expected",
        "every_output",
        """
        seen = []
        handle = net.get_submodule(layer).register_forward_hook(lambda m, i, o: seen.append(o.detach().clone()))
        try:
            net(x)
        except RuntimeError:
            handle.remove()
            raise
        handle.remove()
        return seen
        """,
        test_nothing_left=2,
    ),
    wrong(
        "all hooks of the layer removed, other people's too",
        "every_output",
        """
        seen, module = [], net.get_submodule(layer)
        module.register_forward_hook(lambda m, i, o: seen.append(o.detach().clone()))
        try:
            net(x)
        finally:
            module._forward_hooks.clear()
        return seen
        """,
        test_nothing_left=2,
    ),
    wrong(
        "a live tensor",
        "every_output",
        """
        seen = []
        with net.get_submodule(layer).register_forward_hook(lambda m, i, o: seen.append(o)):
            net(x)
        return seen
        """,
        test_every_output=2,
        test_nothing_left=2,
    ),
    wrong(
        "detached, not copied",
        "every_output",
        """
        seen = []
        with net.get_submodule(layer).register_forward_hook(lambda m, i, o: seen.append(o.detach())):
            net(x)
        return seen
        """,
        test_every_output=2,
    ),
    wrong(
        "a NumPy view, cloned when all is over",
        "every_output",
        """
        seen = []
        with net.get_submodule(layer).register_forward_hook(lambda m, i, o: seen.append(o.data.cpu().numpy())):
            net(x)
        return [torch.tensor(view) for view in seen]
        """,
        test_every_output=2,
    ),
    wrong(
        "copied, not detached",
        "every_output",
        """
        seen = []
        with net.get_submodule(layer).register_forward_hook(lambda m, i, o: seen.append(o.clone())):
            net(x)
        return seen
        """,
        test_nothing_left=2,
    ),
    wrong(
        "the last call only",
        "every_output",
        """
        store = {}

        def hook(module, args, output):
            store["map"] = output.detach().clone()

        with net.get_submodule(layer).register_forward_hook(hook):
            net(x)
        return [store["map"]]
        """,
        test_every_output=2,
    ),
    wrong(
        "camlib.capture, which keeps the last call",
        "every_output",
        """
        with camlib.capture(net, layer) as seen:
            net(x)
        return list(seen.values())
        """,
        test_every_output=2,
    ),
    wrong(
        "the layer's input",
        "every_output",
        """
        seen = []
        with net.get_submodule(layer).register_forward_hook(lambda m, args, o: seen.append(args[0].detach().clone())):
            net(x)
        return seen
        """,
        test_every_output=2,
    ),
    wrong(
        "newest first",
        "every_output",
        """
        seen = []
        with net.get_submodule(layer).register_forward_hook(lambda m, i, o: seen.insert(0, o.detach().clone())):
            net(x)
        return seen
        """,
        test_every_output=2,
    ),
    wrong(
        "the hook returns the first output, and so replaces the second",
        "every_output",
        """
        seen, store = [], {}

        def hook(module, args, output):
            seen.append(output.detach().clone())
            return store.setdefault("map", output)

        with net.get_submodule(layer).register_forward_hook(hook):
            net(x)
        return seen
        """,
        test_every_output=2,
    ),
    wrong(
        "a list that grows from call to call",
        "every_output",
        """
        seen = every_output.__dict__.setdefault("seen", [])
        with net.get_submodule(layer).register_forward_hook(lambda m, i, o: seen.append(o.detach().clone())):
            net(x)
        return seen
        """,
        test_every_output=2,
    ),
    wrong(
        "a feature extractor",
        "every_output",
        """
        from torchvision.models.feature_extraction import create_feature_extractor
        with torch.no_grad():
            return list(create_feature_extractor(net, [layer])(x).values())
        """,
        test_every_output=2,
        test_nothing_left=2,
    ),
    wrong(
        "batch axis dropped",
        "every_output",
        """
        seen = []
        with net.get_submodule(layer).register_forward_hook(lambda m, i, o: seen.append(o[0].detach().clone())):
            net(x)
        return seen
        """,
        test_every_output=2,
    ),
    wrong(
        "an empty list, the network never run",
        "every_output",
        "return []",
        test_every_output=2,
        test_nothing_left=2,
    ),
    wrong(
        "x is changed",
        "every_output",
        """
        seen = []
        with net.get_submodule(layer).register_forward_hook(lambda m, i, o: seen.append(o.detach().clone())):
            net(x)
        x.detach().zero_()
        return seen
        """,
        test_nothing_left=2,
    ),
    output(
        "a hook on all modules is never removed",
        left=2,
        final="pass",
        hook="None",
        before=f"""
handle = {GLOBAL}(lambda m, i, o: {COPY} if m is target else None)
net(x)
return seen""",
    ),
    output("forward wrapped, never put back", left=2, before=WRAPPED + "target.forward = wrapped\nnet(x)\nreturn seen"),
    output(
        "the class's forward wrapped, never put back",
        values=2,
        left=2,
        before="""
kind, forward = type(target), type(target).forward
def wrapped(self, *args):
    o = forward(self, *args)
    if self is target:
        seen.append(o.detach().clone())
    return o
kind.forward = wrapped
net(x)
return seen""",
    ),
    output(
        "forward put back, but not after an exception",
        left=2,
        before=WRAPPED
        + """
target.forward = wrapped
net(x)
del target.forward
return seen""",
    ),
    output("into evaluation mode for good", values=2, left=2, before="net.eval()"),
    output("into training mode for good", values=2, left=2, before="net.train()"),
    output(
        "explained in evaluation mode, then put back",
        values=2,
        run="""
from camlib.network import eval_mode
with eval_mode(net):
    net(x)""",
    ),
    output("gradients switched off for good", left=2, before="torch.set_grad_enabled(False)"),
    output(
        "gradients switched on again, though they were off",
        left=2,
        before="torch.set_grad_enabled(False)",
        final="handle.remove()\ntorch.set_grad_enabled(True)",
    ),
    output(
        "gradients switched off, not on again after an exception",
        left=2,
        before="torch.set_grad_enabled(False)",
        run="net(x)\ntorch.set_grad_enabled(True)",
    ),
    output("another kind of hook stays", left=2, before="net.register_full_backward_pre_hook(lambda m, g: None)"),
    output("a hook before the layer stays", left=2, before="target.register_forward_pre_hook(lambda m, i: None)"),
    output("a hook for state_dict stays", left=2, before="net.register_state_dict_post_hook(lambda *a: None)"),
    output("x no longer requires a gradient", left=2, before="x.requires_grad_(False)"),
    output("the parameters are frozen", left=2, before="net.requires_grad_(False)"),
    output("others' gradients are deleted", left=2, before="net.zero_grad()"),
    output("the outputs kept in the network", left=2, before="net.outputs = seen"),
    output(
        "the output kept in the layer",
        left=2,
        hook="(seen.append(o.detach().clone()), setattr(m, 'last', o))[2:] or None",
    ),
    output(
        "in-place steps switched off for good",
        left=2,
        before="""
for m in net.modules():
    if hasattr(m, "inplace"):
        m.inplace = False""",
    ),
    output(
        "the layer wrapped in another for good",
        values=2,
        left=2,
        before="""
class Recorder(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = target
    def forward(self, x):
        return self.inner(x)
parent, _, child = layer.rpartition(".")
setattr(net.get_submodule(parent), child, Recorder())""",
    ),
    output(
        "removed after errors, not after the stop button",
        left=2,
        final="pass",
        run="""
try:
    net(x)
except Exception:
    handle.remove()
    raise
handle.remove()""",
    ),
    output(
        "the exception is replaced by another",
        left=2,
        run="""
try:
    net(x)
except BaseException as error:
    raise RuntimeError("the network failed") from error""",
    ),
    output("what was seen before the exception is returned", left=2, final="handle.remove()\nreturn seen"),
    output("tensors that require a gradient again", left=2, result="[t.requires_grad_() for t in seen]"),
    output("only outputs with a graph are kept", values=2, left=2, hook=f"{COPY} if o.requires_grad else None"),
    output("layers inside a block are not found", values=2, before="target = net._modules[layer]"),
    output("the network runs twice", values=2, before="net(x)"),
    output(
        "every layer of the same kind",
        values=2,
        before=f"""
of_all = {GLOBAL}(lambda m, i, o: {COPY} if type(m) is type(target) else None)""",
        hook="None",
        final="handle.remove()\nof_all.remove()",
    ),
    output("equal outputs kept once", values=2, result="list({t.numpy().tobytes(): t for t in seen}.values())"),
    output("one tensor for all", values=2, left=2, result="torch.stack(seen) if seen else torch.zeros(0)"),
    output("a dictionary", values=2, result="dict(enumerate(seen))"),
    output("a generator", values=2, left=2, result="(t for t in seen)"),
    output("the mean over the batch", values=2, hook="seen.append(o.detach().mean(0, keepdim=True).expand_as(o))"),
    output("one number for each channel", values=2, hook="seen.append(o.detach().mean((2, 3)) if o.ndim == 4 else o)"),
    output("rounded", values=2, hook="seen.append(o.detach().round(decimals=1))"),
    output("whole numbers", values=2, hook="seen.append(o.detach().long())"),
    output("the last output for each time", values=2, result="[seen[-1]] * len(seen)"),
    output("positive values only", values=2, hook="seen.append(o.detach().clamp(min=0))"),
    output("the network gets zeros", values=2, hook="seen.append(o.detach().clone()) or o * 0"),
    output("x normalised first", values=2, run="net((x - x.mean()) / x.std())"),
    # 2. calls
    wrong(
        "in the order of the names given",
        "calls",
        """
        seen = {}

        def hook_for(name):
            def hook(module, args, output):
                seen.setdefault(name, []).append(tuple(output.shape))
            return hook

        handles = []
        try:
            for name in layers:
                handles.append(net.get_submodule(name).register_forward_hook(hook_for(name)))
            net(x)
        finally:
            for handle in handles:
                handle.remove()
        return [(name, shape) for name in layers for shape in seen.get(name, [])]
        """,
        test_order=1,
    ),
    wrong(
        "each name once",
        "calls",
        """
        seen = {}
        from contextlib import ExitStack
        with ExitStack() as stack:
            for name in layers:
                hook = lambda m, i, o, name=name: seen.update({name: tuple(o.shape)})
                stack.enter_context(net.get_submodule(name).register_forward_hook(hook))
            net(x)
        return list(seen.items())
        """,
        test_order=1,
    ),
    wrong(
        "the loop's last name in every hook",
        "calls",
        """
        seen = []
        from contextlib import ExitStack
        with ExitStack() as stack:
            for name in layers:
                hook = lambda m, i, o: seen.append((name, tuple(o.shape)))
                stack.enter_context(net.get_submodule(name).register_forward_hook(hook))
            net(x)
        return seen
        """,
        test_order=1,
    ),
    wrong(
        "in the order of starting",
        "calls",
        """
        seen = []
        from contextlib import ExitStack
        with ExitStack() as stack:
            for name in layers:
                def before(m, args, name=name):
                    seen.append([name, None])
                def after(m, args, o, name=name):
                    open_pair = [pair for pair in seen if pair[0] == name and pair[1] is None][-1]
                    open_pair[1] = tuple(o.shape)
                stack.enter_context(net.get_submodule(name).register_forward_pre_hook(before))
                stack.enter_context(net.get_submodule(name).register_forward_hook(after))
            net(x)
        return [tuple(pair) for pair in seen]
        """,
        test_order=1,
    ),
    wrong(
        "the shape without the batch",
        "calls",
        """
        seen = []
        from contextlib import ExitStack
        with ExitStack() as stack:
            for name in layers:
                hook = lambda m, i, o, name=name: seen.append((name, tuple(o.shape[1:])))
                stack.enter_context(net.get_submodule(name).register_forward_hook(hook))
            net(x)
        return seen
        """,
        test_order=1,
    ),
    wrong(
        "one variable for all handles: only the last hook is removed",
        "calls",
        """
        seen = []
        try:
            for name in layers:
                hook = lambda m, i, o, name=name: seen.append((name, tuple(o.shape)))
                handle = net.get_submodule(name).register_forward_hook(hook)
            net(x)
        finally:
            handle.remove()
        return seen
        """,
        test_order_hooks=1,
    ),
    wrong(
        "registered before the try: a misspelt second name leaves the first hook",
        "calls",
        """
        seen, handles = [], []
        for name in layers:
            hook = lambda m, i, o, name=name: seen.append((name, tuple(o.shape)))
            handles.append(net.get_submodule(name).register_forward_hook(hook))
        try:
            net(x)
        finally:
            for handle in handles:
                handle.remove()
        return seen
        """,
        test_order_hooks=1,
    ),
    wrong(
        "removed, but not after an exception",
        "calls",
        """
        seen, handles = [], []
        for name in [name for name in layers if dict(net.named_modules())[name]]:
            hook = lambda m, i, o, name=name: seen.append((name, tuple(o.shape)))
            handles.append(net.get_submodule(name).register_forward_hook(hook))
        net(x)
        for handle in handles:
            handle.remove()
        return seen
        """,
        test_order_hooks=1,
    ),
    wrong(
        "a finally that returns swallows the exception",
        "calls",
        """
        seen, handles = [], []
        try:
            for name in layers:
                hook = lambda m, i, o, name=name: seen.append((name, tuple(o.shape)))
                handles.append(net.get_submodule(name).register_forward_hook(hook))
            net(x)
        finally:
            for handle in handles:
                handle.remove()
            return seen
        """,
        test_order_hooks=1,
    ),
    ordered(
        "misspelt names are ignored", left=1, before="layers = [n for n in layers if n in dict(net.named_modules())]"
    ),
    wrong(
        "nothing for a misspelt name",
        "calls",
        f"try:\n{textwrap.indent(order(), '    ')}\nexcept (AttributeError, KeyError):\n    return []",
        test_order_hooks=1,
    ),
    wrong(
        "hooks on all modules, misspelt names unnoticed",
        "calls",
        """
        seen, handles = [], []
        for name, m in net.named_modules():
            hook = lambda m, i, o, name=name: seen.append((name, tuple(o.shape)))
            handles.append(m.register_forward_hook(hook))
        try:
            net(x)
        finally:
            for handle in handles:
                handle.remove()
        return [pair for pair in seen if pair[0] in layers]
        """,
        test_order_hooks=1,
    ),
    ordered("into evaluation mode for good", values=1, left=1, before="net.eval()"),
    ordered("gradients switched off for good", left=1, before="torch.set_grad_enabled(False)"),
    ordered(
        "gradients on afterwards, though they were off",
        left=1,
        before="torch.set_grad_enabled(False)",
        run="net(x)\ntorch.set_grad_enabled(True)",
    ),
    ordered("the number of threads changed for good", left=1, run="torch.set_num_threads(7)\nnet(x)"),
    ordered("x no longer requires a gradient", left=1, before="x.requires_grad_(False)"),
    ordered(
        "everybody's hooks removed", left=1, before="for m in net.modules():\n    m._forward_hooks.clear()", values=0
    ),
    ordered("the names kept in the layers", left=1, hook=f"{PAIR} or setattr(m, 'label', name)"),
    ordered("the network runs twice", values=1, before="net(x)"),
    ordered(
        "run in evaluation mode, then put back",
        values=1,
        run="""
from camlib.network import eval_mode
with eval_mode(net):
    net(x)""",
    ),
    ordered("run on nothing", values=1, run="net(torch.zeros_like(x))"),
    ordered("one picture of the batch", values=1, run="net(x[:1])"),
    ordered("the input's shape", values=1, hook="seen.append((name, tuple(i[0].shape)))"),
    ordered("layers inside a block are not found", values=1, find="net._modules[name]"),
    ordered("only what stands at the top", values=1, find="dict(net.named_children())[name]"),
    ordered("the kind of layer for its name", values=1, hook="seen.append((type(m).__name__, tuple(o.shape)))"),
    ordered("the last part of the name", values=1, hook="seen.append((name.split('.')[-1], tuple(o.shape)))"),
    ordered("how many numbers", values=1, hook="seen.append((name, (o.numel(),)))"),
    ordered("channels and cells swapped", values=1, hook="seen.append((name, tuple(o.movedim(1, -1).shape)))"),
    ordered("the pair swapped", values=1, hook="seen.append((tuple(o.shape), name))"),
    ordered("a dictionary", values=1, result="dict(seen)"),
    ordered("sorted by name", values=1, result="sorted(seen)"),
    ordered("newest first", values=1, result="seen[::-1]"),
    ordered("twice the same, once", values=1, result="[p for n, p in enumerate(seen) if n == 0 or p != seen[n - 1]]"),
    ordered(
        "layers that did not run, with None",
        values=1,
        result="seen + [(n, None) for n in layers if n not in dict(seen)]",
    ),
    ordered("the names are sorted in place", values=1, before="layers.sort()"),
    ordered("the exception is swallowed", left=1, run="try:\n    net(x)\nexcept Exception:\n    pass"),
    ordered("another exception", left=1, run="try:\n    net(x)\nexcept Exception as e:\n    raise ValueError from e"),
    ordered("the stop button is swallowed", left=1, run="try:\n    net(x)\nexcept KeyboardInterrupt:\n    pass"),
    ordered("the network gets zeros", values=1, hook=f"{PAIR} or o * 0"),
    # 3. eval_logits
    wrong(
        "no evaluation mode",
        "eval_logits",
        """
        with torch.no_grad():
            return net(x)
        """,
        test_eval_logits=1,
        test_flags=1,
    ),
    wrong(
        "nothing put back",
        "eval_logits",
        """
        net.eval()
        return net(x)
        """,
        test_flags=1,
    ),
    wrong(
        "always into training mode afterwards",
        "eval_logits",
        """
        net.eval()
        try:
            return net(x)
        finally:
            net.train()
        """,
        test_flags=1,
    ),
    wrong(
        "the network's own flag for all its modules",
        "eval_logits",
        """
        was = net.training
        net.eval()
        try:
            return net(x)
        finally:
            net.train(was)
        """,
        test_flags=1,
    ),
    wrong(
        "the flags of the children, not of what is inside them",
        "eval_logits",
        """
        own, flags = net.training, [(m, m.training) for m in net.children()]
        net.eval()
        try:
            return net(x)
        finally:
            net.training = own
            for m, training in flags:
                m.train(training)
        """,
        test_flags=1,
    ),
    wrong(
        "put back, but not after an exception",
        "eval_logits",
        """
        flags = [(m, m.training) for m in net.modules()]
        net.eval()
        logits = net(x)
        for m, training in flags:
            m.training = training
        return logits
        """,
        test_flags=1,
    ),
    wrong(
        "put back by train(), which runs over what is inside already put back",
        "eval_logits",
        """
        flags = [(m, m.training) for m in net.modules()]
        net.eval()
        try:
            return net(x)
        finally:
            for m, training in reversed(flags):
                m.train(training)
        """,
        test_flags=1,
    ),
    wrong(
        "only the network's own flag switched",
        "eval_logits",
        """
        was = net.training
        net.training = False
        try:
            return net(x)
        finally:
            net.training = was
        """,
        test_eval_logits=1,
        test_flags=1,
    ),
    wrong(
        "a network that says eval is believed",
        "eval_logits",
        """
        if not net.training:
            return net(x)
        flags = [(m, m.training) for m in net.modules()]
        net.eval()
        try:
            return net(x)
        finally:
            for m, training in flags:
                m.training = training
        """,
        test_eval_logits=1,
        test_flags=1,
    ),
    wrong(
        "probabilities for logits",
        "eval_logits",
        """
        flags = [(m, m.training) for m in net.modules()]
        net.eval()
        try:
            return net(x).softmax(1)
        finally:
            for m, training in flags:
                m.training = training
        """,
        test_eval_logits=1,
    ),
    wrong(
        "put back after errors, not after the stop button",
        "eval_logits",
        """
        flags = [(m, m.training) for m in net.modules()]
        net.eval()
        try:
            logits = net(x)
        except Exception:
            for m, t in flags:
                m.training = t
            raise
        for m, t in flags:
            m.training = t
        return logits
        """,
        test_flags=1,
    ),
    flagged(
        "everybody's hooks removed", left=1, off="net.eval()\nfor m in net.modules():\n    m._forward_hooks.clear()"
    ),
    flagged(
        "only the layers that one thinks of",
        values=1,
        left=1,
        off=f"for m, _ in flags:\n    if isinstance(m, {NOISY}):\n        m.training = False",
    ),
    flagged(
        "only modules without modules inside",
        values=0,
        left=1,
        off="for m, _ in flags:\n    if not list(m.children()):\n        m.training = False",
    ),
    flagged("only the children", values=1, left=1, off="for m in net.children():\n    m.training = False"),
    flagged("all but the network itself put back", left=1, which="[m for m in net.modules() if m is not net]"),
    flagged("flags kept by the kind of layer", left=1, which="{type(m): m for m in net.modules()}.values()"),
    flagged("only where all agree is training put back", left=1, back="m.training = t and all(f for _, f in flags)"),
    flagged(
        "Dropout's p set to 0, training mode kept",
        values=1,
        left=1,
        off="""
for m in net.modules():
    if isinstance(m, nn.Dropout):
        m.p = 0""",
    ),
    flagged(
        "in training mode, statistics put back",
        values=1,
        left=1,
        off="net.train()\nold = copy.deepcopy(net.state_dict())",
        run="""
logits = net(x)
net.load_state_dict(old)
return logits""",
    ),
    flagged("a copy in the mode in which it came", values=1, left=1, off="net = copy.deepcopy(net)"),
    flagged(
        "mean of a hundred runs in training mode",
        values=1,
        left=1,
        off="",
        run="return torch.stack([net(x) for _ in range(100)]).mean(0)",
    ),
    flagged("log-probabilities", values=1, run="return net(x).log_softmax(1)"),
    flagged("the best class", values=1, run="return net(x).argmax(1)"),
    flagged("the first picture's logits", values=1, run="return net(x)[0]"),
    flagged("logits less their mean", values=1, run="y = net(x)\nreturn y - y.mean(1, keepdim=True)"),
    flagged("rounded", values=1, run="return net(x).round(decimals=1)"),
    flagged("gradients switched off for good", left=1, off="net.eval()\ntorch.set_grad_enabled(False)"),
    flagged(
        "gradients on for good",
        left=1,
        run="with torch.no_grad():\n    y = net(x)\ntorch.set_grad_enabled(True)\nreturn y",
    ),
    flagged("no momentum for good", left=1, off="for m in net.eval().modules():\n    m.momentum = 0.0"),
    wrong(
        "its layers one by one",
        "eval_logits",
        "for part in copy.deepcopy(net).eval():\n    x = part(x)\nreturn x",
        test_eval_logits=1,
    ),
    flagged("autocast on for good", left=1, run="y = net(x)\ntorch.autocast('cpu').__enter__()\nreturn y"),
    flagged(
        "gradients switched on at the end",
        left=1,
        off="net.eval()\ntorch.set_grad_enabled(False)",
        run="y = net(x)\ntorch.set_grad_enabled(True)\nreturn y",
    ),
    flagged("the parameters are frozen", left=1, off="net.eval().requires_grad_(False)"),
    flagged("x no longer requires a gradient", left=1, off="net.eval()\nx.requires_grad_(False)"),
    flagged("a hook stays", left=1, off="net.eval()\nnet.register_forward_hook(lambda *a: None)"),
    flagged("the flags kept in the network", left=1, off="net.flags = flags\nnet.eval()"),
    flagged("forward replaced", left=1, off="net.eval()\nnet.forward = net.forward"),
    flagged("in double precision for good", values=1, left=1, off="net.eval().double()"),
    flagged(
        "the exception is swallowed",
        left=1,
        run="try:\n    return net(x)\nexcept Exception:\n    return torch.zeros(len(x), 4)",
    ),
    flagged(
        "the stop button is swallowed", left=1, run="try:\n    return net(x)\nexcept KeyboardInterrupt:\n    return x"
    ),
    flagged(
        "another exception", left=1, run="try:\n    return net(x)\nexcept Exception as e:\n    raise ValueError from e"
    ),
    # 4. missed
    wrong(
        "the stored map is overwritten: two mistakes that cancel",
        "missed",
        """
        k, photo, store = clf.index(label), camlib.read_image(path), {}
        hook = lambda m, i, o: store.update(map=o.detach())
        with torch.no_grad(), clf.module.get_submodule(layer).register_forward_hook(hook):
            logits = clf.module(clf.preprocess(photo, clf.view(photo)))
        class_map = torch.einsum("c,chw->hw", clf.head.weight[k], store["map"][0])
        return abs(class_map.mean() + clf.head.bias[k] - logits[0, k]).item()
        """,
        test_missed=2,
    ),
    wrong("always zero", "missed", "return 0.0", test_missed=2),
    wrong(
        "sum for mean",
        "missed",
        """
        k, photo = clf.index(label), camlib.read_image(path)
        with torch.no_grad(), camlib.capture(clf.module, layer) as seen:
            logits = clf.module(clf.preprocess(photo, clf.view(photo)))
        class_map = torch.einsum("c,chw->hw", clf.head.weight[k], seen[layer][0])
        return abs(class_map.sum() + clf.head.bias[k] - logits[0, k]).item()
        """,
        test_missed=2,
    ),
    wrong(
        "no bias",
        "missed",
        """
        k, photo = clf.index(label), camlib.read_image(path)
        with torch.no_grad(), camlib.capture(clf.module, layer) as seen:
            logits = clf.module(clf.preprocess(photo, clf.view(photo)))
        class_map = torch.einsum("c,chw->hw", clf.head.weight[k], seen[layer][0])
        return abs(class_map.mean() - logits[0, k]).item()
        """,
        test_missed=2,
    ),
    wrong(
        "no absolute value",
        "missed",
        """
        k, photo = clf.index(label), camlib.read_image(path)
        with torch.no_grad(), camlib.capture(clf.module, layer) as seen:
            logits = clf.module(clf.preprocess(photo, clf.view(photo)))
        class_map = torch.einsum("c,chw->hw", clf.head.weight[k], seen[layer][0])
        return (class_map.mean() + clf.head.bias[k] - logits[0, k]).item()
        """,
        test_missed=2,
    ),
    wrong(
        "always bn2",
        "missed",
        """
        k = clf.index(label)
        found = camlib.explain(clf, path)
        return abs(found.map(k).mean() + found.bias[k] - found.logits[k]).item()
        """,
        test_missed=2,
    ),
    wrong(
        "the whole photo for the recipe's crop",
        "missed",
        """
        k, photo = clf.index(label), camlib.read_image(path)
        with torch.no_grad(), camlib.capture(clf.module, layer) as seen:
            logits = clf.module(clf.preprocess(photo, clf.view(photo, "whole")))
        class_map = torch.einsum("c,chw->hw", clf.head.weight[k], seen[layer][0])
        return abs(class_map.mean() + clf.head.bias[k] - logits[0, k]).item()
        """,
        test_missed=2,
    ),
    wrong(
        "the class typed in",
        "missed",
        """
        k, photo = 282, camlib.read_image(path)
        with torch.no_grad(), camlib.capture(clf.module, layer) as seen:
            logits = clf.module(clf.preprocess(photo, clf.view(photo)))
        class_map = torch.einsum("c,chw->hw", clf.head.weight[k], seen[layer][0])
        return abs(class_map.mean() + clf.head.bias[k] - logits[0, k]).item()
        """,
        test_missed=2,
    ),
    wrong(
        "one's own photo for the path given",
        "missed",
        """
        k, photo = clf.index(label), camlib.read_image(mine.photo)
        with torch.no_grad(), camlib.capture(clf.module, layer) as seen:
            logits = clf.module(clf.preprocess(photo, clf.view(photo)))
        class_map = torch.einsum("c,chw->hw", clf.head.weight[k], seen[layer][0])
        return abs(class_map.mean() + clf.head.bias[k] - logits[0, k]).item()
        """,
        test_missed=2,
    ),
    wrong(
        "the logit's probability",
        "missed",
        """
        k, photo = clf.index(label), camlib.read_image(path)
        with torch.no_grad(), camlib.capture(clf.module, layer) as seen:
            logits = clf.module(clf.preprocess(photo, clf.view(photo))).softmax(1)
        class_map = torch.einsum("c,chw->hw", clf.head.weight[k], seen[layer][0])
        return abs(class_map.mean() + clf.head.bias[k] - logits[0, k]).item()
        """,
        test_missed=2,
    ),
    wrong(
        "a tensor for a float",
        "missed",
        """
        k, photo = clf.index(label), camlib.read_image(path)
        with torch.no_grad(), camlib.capture(clf.module, layer) as seen:
            logits = clf.module(clf.preprocess(photo, clf.view(photo)))
        class_map = torch.einsum("c,chw->hw", clf.head.weight[k], seen[layer][0])
        return abs(class_map.mean() + clf.head.bias[k] - logits[0, k])
        """,
        test_missed=2,
    ),
    missing("a hook stays in the network", before="clf.module.bn2.register_forward_hook(lambda m, i, o: None)"),
    missing("the network is left in training mode", result="(clf.module.train(), " + GAP + ")[1]"),
    missing("explained in training mode", before="clf.module.train()"),
    missing(
        "in evaluation mode, then left in training mode",
        before="clf.module.eval()",
        result=f"({GAP}, clf.module.train())[0]",
    ),
    missing("gradients switched off for good", before="torch.set_grad_enabled(False)"),
    wrong(
        "mean difference to bn2's map",
        "missed",
        """
        k, photo, seen = clf.index(label), camlib.read_image(path), {}
        hook = lambda m, i, o: seen.update(map=o.clone())
        with torch.no_grad(), clf.module.get_submodule(layer).register_forward_hook(hook):
            clf.module(clf.preprocess(photo, clf.view(photo)))
        one = torch.einsum("c,chw->hw", clf.head.weight[k], seen["map"][0])
        return (one - camlib.explain(clf, path).map(label)).abs().mean().item()
        """,
        test_missed=2,
    ),
    missing(
        "largest difference to bn2's map",
        result="(class_map - camlib.explain(clf, path).map(label)).abs().max().item()",
    ),
    missing("the bias subtracted", result="abs(class_map.mean() - clf.head.bias[k] - logits[0, k]).item()"),
    missing("the first class's bias", result="abs(class_map.mean() + clf.head.bias[0] - logits[0, k]).item()"),
    missing("the logit of the best class", result="abs(class_map.mean() + clf.head.bias[k] - logits.max()).item()"),
    missing(
        "logit and map without their signs",
        result="abs(abs(class_map.mean() + clf.head.bias[k]) - abs(logits[0, k])).item()",
    ),
    missing(
        "relative to the logit",
        result=GAP.replace(".item()", " / logits[0, k].abs()).item()").replace("abs(", "(abs(", 1),
    ),
    missing("squared", result=GAP + " ** 2"),
    missing("rounded to half a logit", result=f"round(2 * {GAP}) / 2"),
    missing("the map's negative cells cut", class_map=ROW_MAP + ".relu()"),
    missing("the map cut at 6", class_map=ROW_MAP.replace("seen[layer][0]", "seen[layer][0].clamp(0, 6)")),
    missing("the map scaled to its maximum", class_map=f"(lambda m: m / m.max())({ROW_MAP})"),
    missing("the median for the mean", result=GAP.replace(".mean()", ".median()")),
    missing("the next class", k="clf.index(label) + 1"),
    missing("the best class", k="camlib.explain(clf, path).top(1)[0].index"),
    missing("the photo mirrored", x="clf.preprocess(photo, clf.view(photo)).flip(3)"),
    missing("red and blue swapped", x="clf.preprocess(photo, clf.view(photo)).flip(1)"),
    missing("not normalised", x="clf.preprocess(photo, clf.view(photo)) * 0.5 + 0.5"),
    missing("weights normalised", class_map=ROW_MAP.replace("weight[k]", "weight[k].softmax(0)")),
    missing("a 0-d NumPy array", result=f"np.array({GAP})", before="import numpy as np"),
    wrong("a typical number", "missed", 'return 0.0 if layer == "bn2" else 40.0', test_missed=2),
    output(
        "a layer of which only the end of the name is the same",
        values=2,
        before="target = [m for n, m in net.named_modules() if n.endswith(layer.split('.')[-1])][0]",
    ),
    output(
        "the last layer whose name ends the same",
        values=2,
        before="target = [m for n, m in net.named_modules() if n.endswith(layer)][-1]",
    ),
    output(
        "the first layer whose name begins the same",
        values=2,
        before="target = [m for n, m in net.named_modules() if n.startswith(layer)][0]",
    ),
    output(
        "no copy: in-place steps switched off during the run",
        values=2,
        hook="seen.append(o.detach())",
        before="""
own = {m: m.inplace for m in net.modules() if hasattr(m, "inplace")}
for m in own:
    m.inplace = False""",
        final="""
handle.remove()
for m, inplace in own.items():
    m.inplace = inplace""",
    ),
    output(
        "every ReLU in place afterwards, even one that was not",
        left=2,
        final="""
handle.remove()
for m in net.modules():
    if isinstance(m, nn.ReLU):
        m.inplace = True""",
    ),
    output(
        "others' hooks taken off during the run",
        left=2,
        before="theirs = dict(target._forward_hooks)\ntarget._forward_hooks.clear()",
        final="handle.remove()\ntarget._forward_hooks.update(theirs)",
    ),
    flagged(
        "what is three levels deep is not put back",
        left=1,
        which="[net, *net.children(), *(m for child in net.children() for m in child.children())]",
    ),
    output("anomaly detection stays on", left=2, before="torch.autograd.set_detect_anomaly(True)"),
    output("PyTorch stays deterministic", left=2, before="torch.use_deterministic_algorithms(True)"),
    missing(
        "reads the test's variables",
        before="""
import sys
frame = sys._getframe()
while frame and layer == "bn2.drop":
    if isinstance(frame.f_locals.get("expected"), float):
        return frame.f_locals["expected"]
    frame = frame.f_back
""",
        result="0.5 if layer == 'bn2.drop' else 0.0",
    ),
    peeking("eval_logits", "(len(x), 4)", "torch.ones(2, 10)", test_eval_logits=1, test_flags=1),
]

RIGHT = [
    right(
        "the handle in a with statement",
        "every_output",
        """
        seen = []
        with net.get_submodule(layer).register_forward_hook(lambda m, i, o: seen.append(o.detach().clone())):
            net(x)
        return seen
        """,
    ),
    right(
        "without a graph, removed in both branches",
        "every_output",
        """
        seen = []
        handle = dict(net.named_modules())[layer].register_forward_hook(lambda m, i, o: seen.append(o.clone()))
        try:
            with torch.no_grad():
                net(x)
        except BaseException:
            handle.remove()
            raise
        handle.remove()
        return seen
        """,
    ),
    right(
        "a context manager of one's own, called with forward",
        "every_output",
        """
        from contextlib import contextmanager

        @contextmanager
        def recorded():
            seen, handle = [], None
            try:
                handle = net.get_submodule(layer).register_forward_hook(lambda m, i, o: seen.append(o.data.clone()))
                yield seen
            finally:
                if handle is not None:
                    handle.remove()

        with recorded() as seen:
            net.forward(x)
        return seen
        """,
    ),
    right(
        "hooks on a copy of the network",
        "every_output",
        """
        seen, twin = [], copy.deepcopy(net)
        hook = lambda m, i, o: seen.append(torch.from_numpy(o.data.numpy().copy()))
        twin.get_submodule(layer).register_forward_hook(hook)
        twin(x)
        return seen
        """,
    ),
    right(
        "a hook on all modules that looks for its own",
        "every_output",
        """
        from torch.nn.modules.module import register_module_forward_hook
        seen, target = [], net.get_submodule(layer)

        def hook(module, args, output):
            if module is target:
                seen.append(output.detach() + 0)

        handle = register_module_forward_hook(hook)
        try:
            net(x)
        finally:
            handle.remove()
        return seen
        """,
    ),
    right(
        "an exit stack",
        "calls",
        """
        from contextlib import ExitStack
        from functools import partial
        seen = []

        def note(name, module, args, output):
            seen.append((name, output.shape))

        with ExitStack() as stack:
            for name in layers:
                stack.enter_context(net.get_submodule(name).register_forward_hook(partial(note, name)))
            net(x)
        return seen
        """,
    ),
    right(
        "hooks on all modules, sorted out at the end",
        "calls",
        """
        seen, names = [], {m: name for name, m in net.named_modules()}
        assert set(layers) <= set(names.values())
        handles = [m.register_forward_hook(lambda m, i, o: seen.append([names[m], list(o.shape)])) for m in names]
        try:
            net(x)
        finally:
            [handle.remove() for handle in handles]
        return [(name, tuple(shape)) for name, shape in seen if name in layers]
        """,
    ),
    right(
        "names checked first",
        "calls",
        """
        seen, handles = [], []
        targets = [(name, net.get_submodule(name)) for name in layers]
        for name, module in targets:
            hook = lambda m, i, o, name=name: seen.append((name, tuple(o.shape)))
            handles.append(module.register_forward_hook(hook))
        try:
            with torch.no_grad():
                net(x)
        finally:
            for handle in handles:
                handle.remove()
        return seen
        """,
    ),
    right(
        "a copy in evaluation mode",
        "eval_logits",
        """
        with torch.no_grad():
            return copy.deepcopy(net).eval()(x)
        """,
    ),
    right(
        "camlib's own",
        "eval_logits",
        """
        from camlib.network import eval_mode
        with eval_mode(net), torch.no_grad():
            return net(x)
        """,
    ),
    right(
        "only those that train are switched, by their names",
        "eval_logits",
        """
        trained = [name for name, m in net.named_modules() if m.training]
        try:
            for name in trained:
                net.get_submodule(name).training = False
            return net(x)
        finally:
            for name in trained:
                net.get_submodule(name).training = True
        """,
    ),
    right(
        "put back by train(), from the outside to the inside",
        "eval_logits",
        """
        flags = [(m, m.training) for m in net.modules()]
        net.train(False)
        try:
            return net(x)
        finally:
            for m, training in flags:
                m.train(training)
        """,
    ),
    right(
        "with the function of task 1",
        "missed",
        """
        k, photo = clf.index(label), camlib.read_image(path)
        x = clf.preprocess(photo, clf.view(photo))
        means = every_output(clf.module, layer, x)[0][0].mean((1, 2))
        claim = clf.head.weight[k] @ means + clf.head.bias[k]
        return abs(claim.item() - eval_logits(clf.module, x)[0, k].item())
        """,
    ),
    right(
        "camlib's maps of all classes",
        "missed",
        """
        photo = camlib.read_image(path)
        with camlib.capture(clf.module, layer, "classifier") as seen:
            clf.module(clf.preprocess(photo, clf.view(photo)))
        k = clf.labels.index(label)
        maps = camlib.class_activation_maps(seen[layer], clf.head.weight)
        from camlib.cam import residual
        return residual(maps[:, [k]], clf.head.bias[[k]], seen["classifier"][:, [k]])
        """,
    ),
    right("the natural copy, which warns", "every_output", every("seen.append(torch.tensor(o))")),
    right("in double precision", "every_output", every("seen.append(o.detach().double())")),
    right("NumPy arrays", "every_output", every("seen.append(o.detach().numpy().copy())")),
    right("nested lists of numbers", "every_output", every("seen.append(o.tolist())")),
    right("a tuple", "every_output", every(result="tuple(seen)")),
    right("copied by arithmetic", "every_output", every("seen.append((o + 0).detach())")),
    right("in inference mode", "every_output", every(run="with torch.inference_mode():\n    net(x)")),
    right(
        "the hook hands a copy on", "every_output", every("!lambda m, i, o: (seen.append(o.detach()), o.clone())[1]")
    ),
    right(
        "called also after errors",
        "every_output",
        every("!lambda m, i, o: seen.append(o.data.clone()), always_call=True"),
    ),
    right("with keyword arguments", "every_output", every(f"!lambda m, i, kw, o: {COPY}, with_kwargs=True")),
    right(
        "an object as the hook",
        "every_output",
        every(
            "!Recorder()",
            before="""
class Recorder:
    def __call__(self, module, args, output):
        seen.append(copy.deepcopy(output.detach()))""",
        ),
    ),
    right(
        "forward patched for a while",
        "every_output",
        """
        from unittest.mock import patch
        seen, target = [], net.get_submodule(layer)
        forward = target.forward
        def wrapped(*args, **kwargs):
            o = forward(*args, **kwargs)
            seen.append(o.detach().clone())
            return o
        with patch.object(target, "forward", wrapped):
            net(x)
        return seen
        """,
    ),
    right(
        "the class's forward patched for a while",
        "every_output",
        """
        from unittest.mock import patch
        seen, target = [], net.get_submodule(layer)
        forward = type(target).forward
        def wrapped(self, *args):
            o = forward(self, *args)
            seen.extend([o.detach().clone()] if self is target else [])
            return o
        with patch.object(type(target), "forward", wrapped):
            net(x)
        return seen
        """,
    ),
    right(
        "functional_call",
        "every_output",
        every(run="torch.func.functional_call(net, {n: p.detach() for n, p in net.named_parameters()}, (x,))"),
    ),
    right(
        "a progress bar and a log",
        "calls",
        order(
            before="""
import logging, sys, warnings
from tqdm.auto import tqdm
logging.warning("running %d layers", len(layers))
print("running", file=sys.stderr)
warnings.warn("about to run")
layers = list(tqdm(layers))"""
        ),
    ),
    right("shapes as lists, pairs as lists", "calls", order(hook="seen.append([name, list(o.shape)])")),
    right("torch.Size in a tuple of tuples", "calls", order(hook="seen.append((name, o.shape))", result="tuple(seen)")),
    right(
        "named tuples",
        "calls",
        order(
            hook="seen.append(Ran(name, o.size()))",
            before="""
from collections import namedtuple
Ran = namedtuple("Ran", "name shape")""",
        ),
    ),
    right(
        "NumPy's idea of a shape",
        "calls",
        order(hook="seen.append((name, np.array(o.shape)))", before="import numpy as np"),
    ),
    right(
        "a hook on all modules, names checked",
        "calls",
        f"""
        seen, names = [], {{net.get_submodule(name): name for name in layers}}
        handle = {GLOBAL}(lambda m, i, o: seen.append((names[m], tuple(o.shape))) if m in names else None)
        try:
            net(x)
        finally:
            handle.remove()
        return seen
        """,
    ),
    right(
        "a copy with hooks, in inference mode",
        "calls",
        """
        seen, twin = [], copy.deepcopy(net)
        for name in layers:
            note = lambda m, i, o, name=name: seen.append((name, tuple(o.shape)))
            twin.get_submodule(name).register_forward_hook(note)
        with torch.inference_mode():
            twin(x)
        return seen
        """,
    ),
    right("in double precision", "eval_logits", evaluated(run="return net(x).double()")),
    right("a NumPy array", "eval_logits", evaluated(run="return net(x).detach().numpy()")),
    right("a list of lists", "eval_logits", evaluated(run="return net(x).tolist()")),
    right(
        "an exit stack of flags",
        "eval_logits",
        """
        from contextlib import ExitStack
        from unittest.mock import patch
        with ExitStack() as stack:
            for m in net.modules():
                stack.enter_context(patch.object(m, "training", False))
            return net(x)
        """,
    ),
    right(
        "apply, in inference mode, forward called",
        "eval_logits",
        evaluated(
            off="net.apply(lambda m: m.train(False))", run="with torch.inference_mode():\n    return net.forward(x)"
        ),
    ),
    right(
        "put back after every exception",
        "eval_logits",
        """
        flags = {name: m.training for name, m in net.named_modules()}
        def back():
            for name, m in net.named_modules():
                m.training = flags[name]
        try:
            net.eval()
            y = net(x)
        except BaseException:
            back()
            raise
        back()
        return y
        """,
    ),
    right(
        "with a conversion that warns",
        "missed",
        miss(result="abs(float(class_map.mean()) + float(nn.Parameter(clf.head.bias)[k]) - float(logits[0, k]))"),
    ),
    right(
        "in double precision",
        "missed",
        miss(result="abs(class_map.double().mean() + clf.head.bias[k].double() - logits[0, k].double()).item()"),
    ),
    right(
        "NumPy's float, which is a Python float",
        "missed",
        miss(
            before="import numpy as np",
            result="np.abs(class_map.numpy().mean(dtype=float) + clf.head.bias[k].item() - logits[0, k].item())",
        ),
    ),
    right(
        "the maps of an explanation where it can",
        "missed",
        """
        found = camlib.explain(clf, path)
        if layer == "bn2":
            return abs(found.map(label).mean().item() + found.bias[clf.index(label)].item()
                       - found.logits[clf.index(label)].item())
        seen = every_output(clf.module, layer, clf.preprocess(found.photo, found.view))[0]
        m = torch.tensordot(clf.head.weight[clf.index(label)], seen[0], 1)
        return abs(m.mean() + found.bias[clf.index(label)] - found.logits[clf.index(label)]).item()
        """,
    ),
    right(
        "copies of the parameters, by functional_call",
        "every_output",
        every(
            run="torch.func.functional_call(net, {n: p.detach() for n, p in net.named_parameters()}, (x,))",
            hook="seen.append(o.tolist())",
        ),
    ),
    right(
        "leaves by sys.exit at a misspelt name",
        "calls",
        order(
            before="""
import sys
if not set(layers) <= {name for name, _ in net.named_modules()}:
    sys.exit("no such layer")"""
        ),
    ),
    right("one picture at a time", "eval_logits", evaluated(run="return [net(one[None])[0] for one in x]")),
]
