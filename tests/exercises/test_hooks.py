"""Every known mistake in the exercise on hooks loses its points, and no right answer loses any."""

from tests.exercises.grading import right, wrong

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
        test_every_output=2,
    ),
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
        except Exception:
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
]
