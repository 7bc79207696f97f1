"""Every known mistake in the exercise on transformers loses its points, and no right answer loses any."""

from tests.exercises.grading import peeking, right, wrong

BY_ROLLOUT = """
flow = torch.eye(weights[0].shape[-1])
for part in {order}:
    flow = {step}
return flow{read}
"""
ALL = {"test_rollout": 2, "test_rollout_tokens": 1}


def rolled(what: str, order="weights", step=None, read="[:, 0, extra:]", **loses: float):
    """A wrong rollout: the loop with one part changed."""
    step = step or "(part.mean(1) + torch.eye(part.shape[-1])) / 2 @ flow"
    return wrong(what, "rollout", BY_ROLLOUT.format(order=order, step=step, read=read), **(loses or ALL))


WEIGHTS = "weights = (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(-1)\n"
ROW = "row = head.weight[k].detach()\n"
SCALED = (
    ROW + "scaled = nn.functional.layer_norm("
    "tokens.detach(), norm.normalized_shape, norm.weight.detach(), None, norm.eps)\n"
)
REST = "(norm.bias @ row + head.bias[k]).item()"
RIGHT_AVERAGED = SCALED + f"scaled = scaled.detach()\nreturn scaled @ row, {REST}"
MAP, SAME = "return tokens[:, extra:].transpose(1, 2).unflatten(2, size)", WEIGHTS + "return weights.detach() @ v"


def but(code: str, old: str, new: str) -> str:
    assert old in code, old
    return code.replace(old, new)


def mapped(what: str, code: str):
    return wrong(what, "feature_map", code, test_feature_map=2)


def held(what: str, code: str, values: float = 1, gradient: float = 1):
    loses = {"test_held_values": values, "test_held_gradient": gradient}
    return wrong(what, "held", code, **{name: lost for name, lost in loses.items() if lost})


def averaged(what: str, old: str, new: str, in_map: float = 2, rest: float = 1):
    loses = {"test_averaged_map": in_map, "test_averaged_rest": rest}
    return wrong(
        what, "averaged", but(RIGHT_AVERAGED, old, new), **{name: lost for name, lost in loses.items() if lost}
    )


WRONG = [
    # 1. feature_map
    wrong(
        "nothing returned", "feature_map", "tokens[:, extra:].transpose(1, 2).unflatten(2, size)", test_feature_map=2
    ),
    wrong(
        "viewed as channels without a transpose",
        "feature_map",
        "return tokens[:, extra:].reshape(len(tokens), tokens.shape[2], *size)",
        test_feature_map=2,
    ),
    wrong(
        "the extra tokens at the end",
        "feature_map",
        "return tokens[:, : tokens.shape[1] - extra].transpose(1, 2).unflatten(2, size)",
        test_feature_map=2,
    ),
    wrong(
        "one extra token, whatever is asked",
        "feature_map",
        "return tokens[:, 1:].transpose(1, 2).unflatten(2, size)",
        test_feature_map=2,
    ),
    wrong(
        "the last h · w tokens of a square grid",
        "feature_map",
        """
        side = int((tokens.shape[1] - extra) ** 0.5)
        return tokens[:, extra:].transpose(1, 2).unflatten(2, (side, side))
        """,
        test_feature_map=2,
    ),
    wrong(
        "column by column",
        "feature_map",
        "return tokens[:, extra:].transpose(1, 2).unflatten(2, (size[1], size[0])).transpose(2, 3)",
        test_feature_map=2,
    ),
    wrong(
        "channels last",
        "feature_map",
        "return tokens[:, extra:].unflatten(1, size)",
        test_feature_map=2,
    ),
    wrong(
        "the first photo for all",
        "feature_map",
        "return tokens[:1, extra:].transpose(1, 2).unflatten(2, size).expand(len(tokens), -1, -1, -1)",
        test_feature_map=2,
    ),
    wrong(
        "upside down",
        "feature_map",
        "return tokens[:, extra:].transpose(1, 2).unflatten(2, size).flip(2)",
        test_feature_map=2,
    ),
    # 2. rollout
    wrong("nothing returned", "rollout", "weights[-1].mean(1)[:, 0, extra:]", **ALL),
    rolled("the order reversed", order="weights[::-1]"),
    rolled("no residual connection", step="part.mean(1) @ flow"),
    rolled("not halved", step="(part.mean(1) + torch.eye(part.shape[-1])) @ flow"),
    rolled("the blocks from left to right", step="flow @ ((part.mean(1) + torch.eye(part.shape[-1])) / 2)"),
    rolled("a column", read="[:, extra:, 0]"),
    rolled("the last token's row", read="[:, -1, extra:]"),
    rolled(
        "the heads added up",
        step="(part.sum(1) + torch.eye(part.shape[-1])) / 2 @ flow",
        test_rollout=2,
        test_rollout_tokens=1,
    ),
    rolled("the largest of the heads", step="(part.amax(1) + torch.eye(part.shape[-1])) / 2 @ flow"),
    rolled("the first head alone", step="(part[:, 0] + torch.eye(part.shape[-1])) / 2 @ flow"),
    rolled("multiplied cell by cell", step="(part.mean(1) + torch.eye(part.shape[-1])) / 2 * flow"),
    rolled(
        "the mean over the batch",
        step="(part.mean((0, 1)) + torch.eye(part.shape[-1])) / 2 @ flow",
        read="[None, 0, extra:].expand(len(weights[0]), -1)",
    ),
    rolled("the mean over the patches", read="[:, :, extra:].mean(1)"),
    rolled("scaled to a largest value of 1", read="[:, 0, extra:] / flow[:, 0, extra:].amax(1, keepdim=True)"),
    rolled("the last tokens dropped", read="[:, 0, : flow.shape[-1] - extra]"),
    rolled("always one extra token", read="[:, 0, 1:]", test_rollout_tokens=1),
    wrong(
        "the registers left out of the mixing",
        "rollout",
        """
        keep = [0, *range(max(extra, 1), weights[0].shape[-1])]
        flow = torch.eye(len(keep))
        for part in weights:
            part = part[:, :, keep][:, :, :, keep]
            flow = (part.mean(1) + torch.eye(len(keep))) / 2 @ flow
        return flow[:, 0, 1:] if extra else flow[:, 0]
        """,
        test_rollout_tokens=1,
    ),
    wrong("the last block alone", "rollout", "return weights[-1].mean(1)[:, 0, extra:]", **ALL),
    wrong(
        "the mean of the blocks",
        "rollout",
        "return torch.stack([w.mean(1) for w in weights]).mean(0)[:, 0, extra:]",
        **ALL,
    ),
    wrong(
        "the weights are overwritten",
        "rollout",
        """
        flow = torch.eye(weights[0].shape[-1])
        for part in weights:
            part += torch.eye(part.shape[-1])
            flow = part.mean(1) / 2 @ flow
        return flow[:, 0, extra:]
        """,
        **ALL,
    ),
    # 3. held
    wrong("nothing returned", "held", WEIGHTS + "weights.detach() @ v", test_held_values=1, test_held_gradient=1),
    wrong("not held", "held", WEIGHTS + "return weights @ v", test_held_gradient=1),
    wrong("all detached", "held", WEIGHTS + "return (weights @ v).detach()", test_held_gradient=1),
    wrong("v detached too", "held", WEIGHTS + "return weights @ v.detach()", test_held_gradient=1),
    wrong(
        "q held, k not",
        "held",
        "return nn.functional.scaled_dot_product_attention(q.detach(), k, v)",
        test_held_gradient=1,
    ),
    wrong(
        "k held, q not",
        "held",
        "return nn.functional.scaled_dot_product_attention(q, k.detach(), v)",
        test_held_gradient=1,
    ),
    wrong(
        "not divided by the root of d",
        "held",
        "return (q @ k.transpose(-2, -1)).softmax(-1).detach() @ v",
        test_held_values=1,
        test_held_gradient=1,
    ),
    wrong(
        "divided by d",
        "held",
        "return (q @ k.transpose(-2, -1) / q.shape[-1]).softmax(-1).detach() @ v",
        test_held_values=1,
        test_held_gradient=1,
    ),
    wrong(
        "divided by the root of n",
        "held",
        "return (q @ k.transpose(-2, -1) / q.shape[-2] ** 0.5).softmax(-1).detach() @ v",
        test_held_values=1,
        test_held_gradient=1,
    ),
    wrong(
        "softmax over the queries",
        "held",
        "return (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(-2).detach() @ v",
        test_held_values=1,
        test_held_gradient=1,
    ),
    wrong(
        "the same values, another gradient",
        "held",
        WEIGHTS + "return weights.detach() @ v + v - v.detach()",
        test_held_gradient=1,
    ),
    wrong(
        "v overwritten",
        "held",
        WEIGHTS + "result = weights.detach() @ v\nv.data.mul_(2)\nreturn result",
        test_held_values=1,
        test_held_gradient=1,
    ),
    # 4. averaged
    wrong(
        "nothing returned",
        "averaged",
        SCALED + f"scaled @ row, {REST}",
        test_averaged_map=2,
        test_averaged_rest=1,
    ),
    wrong(
        "the norm's bias in the map",
        "averaged",
        ROW + "return norm(tokens).detach() @ row, head.bias[k].item()",
        test_averaged_map=2,
        test_averaged_rest=1,
    ),
    wrong(
        "a rest without the norm's bias",
        "averaged",
        SCALED + "return scaled @ row, head.bias[k].item()",
        test_averaged_rest=1,
    ),
    wrong(
        "a rest without the head's bias",
        "averaged",
        SCALED + "return scaled @ row, (norm.bias @ row).item()",
        test_averaged_rest=1,
    ),
    wrong(
        "the rest is a tensor",
        "averaged",
        SCALED + "return scaled @ row, norm.bias @ row + head.bias[k]",
        test_averaged_rest=1,
    ),
    wrong(
        "a map that is not detached",
        "averaged",
        "row = head.weight[k]\nscaled = (norm(tokens) - norm.bias)\n" + f"return scaled @ row, {REST}",
        test_averaged_map=2,
    ),
    wrong(
        "divided by n",
        "averaged",
        SCALED + f"return scaled @ row / tokens.shape[1], {REST}",
        test_averaged_map=2,
        test_averaged_rest=1,
    ),
    wrong(
        "without eps",
        "averaged",
        ROW
        + "scaled = nn.functional.layer_norm(tokens, norm.normalized_shape, norm.weight.detach(), None, 0.0)\n"
        + f"return scaled @ row, {REST}",
        test_averaged_map=2,
        test_averaged_rest=1,
    ),
    wrong(
        "the deviation with n - 1",
        "averaged",
        ROW
        + "scaled = (tokens - tokens.mean(2, keepdim=True)) / (tokens.var(2, keepdim=True) + norm.eps).sqrt()\n"
        + f"return (scaled * norm.weight).detach() @ row, {REST}",
        test_averaged_map=2,
        test_averaged_rest=1,
    ),
    wrong(
        "the norm's weight forgotten",
        "averaged",
        ROW
        + "scaled = nn.functional.layer_norm(tokens, norm.normalized_shape, None, None, norm.eps)\n"
        + f"return scaled @ row, {REST}",
        test_averaged_map=2,
        test_averaged_rest=1,
    ),
    wrong(
        "a gradient through the deviation",
        "averaged",
        """
        leaf = tokens.clone().requires_grad_()
        (G,) = torch.autograd.grad(head(norm(leaf).mean(1))[:, k].sum(), leaf)
        found = tokens.shape[1] * (G * tokens).sum(2)
        return found, (head(norm(tokens).mean(1))[0, k] - found[0].mean()).item()
        """,
        test_averaged_map=2,
        test_averaged_rest=1,
    ),
    wrong(
        "class 0 always",
        "averaged",
        SCALED.replace("[k]", "[0]") + "return scaled @ row, (norm.bias @ row + head.bias[0]).item()",
        test_averaged_map=2,
        test_averaged_rest=1,
    ),
    wrong(
        "gradients left in the parameters",
        "averaged",
        SCALED + f"head(norm(tokens).mean(1)).sum().backward()\nreturn scaled @ row, {REST}",
        test_averaged_map=2,
    ),
    # tried afresh, from the task's text
    # fmt: off
    mapped(
        "the tokens are cut for good",
        "tokens.data = tokens[:, extra:]\nreturn tokens.transpose(1, 2).unflatten(2, size)",
    ),
    mapped("the tokens are scaled for good", "tokens.mul_(2).div_(2).add_(1e-3)\n" + MAP),
    mapped(
        "the tokens get a flag", "tokens = tokens if tokens.dtype == torch.double else tokens.requires_grad_()\n" + MAP
    ),
    mapped("the largest divides the rest", MAP + " / tokens.abs().max()"),
    mapped("left and right turned", MAP + ".flip(3)"),
    mapped(
        "h and w turned, where it fits",
        "m = tokens[:, extra:].mT.unflatten(2, size)\nreturn m.mT if size[0] == size[1] else m",
    ),
    mapped(
        "the mean of the extra tokens is added",
        but(MAP, "tokens[:, extra:]", "(tokens[:, extra:] + tokens[:, :max(extra, 1)].mean(1, keepdim=True))"),
    ),
    mapped("one photo at a time only", "return tokens[0, extra:].T.reshape(1, -1, *size)"),
    mapped("no batch in the result", "return tokens.mean(0)[extra:].T.reshape(-1, *size)"),
    mapped("the class token as a cell", "return tokens[:, : size[0] * size[1]].transpose(1, 2).unflatten(2, size)"),
    mapped(
        "two extra tokens at most",
        "return tokens[:, min(extra, 2):][:, : size[0] * size[1]].transpose(1, 2).unflatten(2, size)",
    ),
    rolled("the blocks are mixed up after the third", order="weights[:3] + weights[3:][::-1]", test_rollout=2),
    rolled("three blocks at most", order="weights[-3:]", test_rollout=2),
    rolled("two heads at most", step="(part[:, :2].mean(1) + torch.eye(part.shape[-1])) / 2 @ flow", test_rollout=2),
    rolled("the list is emptied", order="[weights.pop(0) for _ in list(weights)]", test_rollout=2),
    rolled("the list is reversed for good", order="(weights.reverse() or weights)[::-1]", test_rollout=2),
    rolled("a softmax of the weights", step="(part.mean(1).softmax(-1) + torch.eye(part.shape[-1])) / 2 @ flow"),
    rolled("the residual a tenth", step="(0.9 * part.mean(1) + 0.1 * torch.eye(part.shape[-1])) @ flow"),
    rolled("the residual once, at the end", step="part.mean(1) @ flow", read="[:, 0, extra:] / 2"),
    rolled("patches that add up to 1", read="[:, 0, extra:] / flow[:, 0, extra:].sum(1, keepdim=True)"),
    rolled("the first photo alone", read="[:1, 0, extra:]", test_rollout=2, test_rollout_tokens=1),
    rolled("queries and keys turned", step="(part.mean(1).mT + torch.eye(part.shape[-1])) / 2 @ flow"),
    rolled("weights read from the last extra token", read="[:, max(extra - 1, 0), extra:]", test_rollout_tokens=1),
    rolled("extra tokens but the first stay", read="[:, 0, 1:][:, : flow.shape[-1] - extra]", test_rollout_tokens=1),
    rolled(
        "weak attention is dropped", step="(nn.Threshold(0.1, 0)(part.mean(1)) + torch.eye(part.shape[-1])) / 2 @ flow"
    ),
    held("q gets a flag for good", "q.requires_grad_(not q.requires_grad)\n" + SAME),
    held("v is scaled for good", "v.data *= 1.001\n" + SAME),
    held(
        "a gradient from q through the scale",
        but(SAME, "weights.detach()", "(weights.detach() * (1 + q.sum() - q.sum().detach()))"),
        0,
    ),
    held("half the gradient", WEIGHTS + "out = weights.detach() @ v\nreturn (out + out.detach()) / 2", 0),
    held(
        "v's gradient as if the weights were even",
        WEIGHTS + "even = torch.full_like(weights, 1 / q.shape[2]) @ v\n"
        "return (weights @ v).detach() + even - even.detach()",
        0,
    ),
    held("the gradient as it comes, through no weights", WEIGHTS + "return (weights @ v).detach() + v - v.detach()", 0),
    held("scaled by a fixed d", "return (q @ k.mT / 2).softmax(-1).detach() @ v"),
    held(
        "a causal mask", "return nn.functional.scaled_dot_product_attention(q.detach(), k.detach(), v, is_causal=True)"
    ),
    held("the heads' mean", WEIGHTS + "return weights.detach().mean(1, keepdim=True).expand_as(weights) @ v"),
    held("keys and queries turned", "return (k @ q.mT / q.shape[-1] ** 0.5).softmax(-1).detach() @ v"),
    held("sigmoid for softmax", "return (q @ k.mT / q.shape[-1] ** 0.5).sigmoid().detach() @ v"),
    held("the sharpest only", "return nn.functional.one_hot((q @ k.mT).argmax(-1), k.shape[2]).float() @ v"),
    averaged("the sum, not n times", "scaled @ row,", "scaled @ row / tokens.shape[1],"),
    averaged("negative tokens cut", "scaled @ row,", "(scaled @ row).relu(),"),
    averaged("the magnitude", "scaled @ row,", "(scaled @ row).abs(),"),
    averaged("the rest in each token", "scaled @ row,", f"scaled @ row + {REST},"),
    averaged(
        "the mean is held as well",
        "return scaled",
        "scaled = tokens / (tokens.var(2, correction=0, keepdim=True) + norm.eps).sqrt()"
        " * norm.weight.detach()\nreturn scaled",
    ),
    averaged(
        "one deviation for all tokens",
        "scaled = scaled.detach()",
        "t = tokens - tokens.mean(2, keepdim=True)\nscaled = (t / (t.var() + norm.eps).sqrt() * norm.weight).detach()",
    ),
    averaged(
        "the tokens' own mean vector",
        "scaled = scaled.detach()",
        "scaled = (scaled - scaled.mean(1, keepdim=True)).detach()",
    ),
    averaged(
        "other people's gradients are cleared", "scaled = scaled.detach()", "norm.zero_grad()\nhead.zero_grad()", 2, 0
    ),
    averaged(
        "thawed for good",
        "scaled = scaled.detach()",
        "norm.requires_grad_()\nhead.requires_grad_()\nscaled = scaled.detach()",
        2,
        0,
    ),
    averaged(
        "a hook is left",
        "scaled = scaled.detach()",
        "norm.register_forward_hook(lambda *a: None)\nscaled = scaled.detach()",
        2,
        0,
    ),
    averaged(
        "eps is set for good",
        "scaled = scaled.detach()",
        "norm.eps = norm.eps * 1.0 + 1e-9\nscaled = scaled.detach()",
        2,
        0,
    ),
    averaged(
        "the bias is taken out for good",
        "scaled = scaled.detach()",
        "rest = norm.bias.data.clone()\nscaled = scaled.detach()\nnorm.bias.data.zero_()",
        2,
        1,
    ),
    averaged(
        "the tokens get a flag",
        "scaled = scaled.detach()",
        "tokens = tokens if tokens.grad_fn else tokens.requires_grad_()\nscaled = scaled.detach()",
        2,
        0,
    ),
    averaged("live tokens stay live", "scaled = scaled.detach()", "scaled = scaled + 0 * tokens.sum()", 2, 0),
    averaged(
        "live tokens are cut from their graph",
        "scaled = scaled.detach()",
        "tokens.detach_()\nscaled = scaled.detach()",
        2,
        0,
    ),
    averaged(
        "a gradient runs on into the caller's tokens",
        "scaled = scaled.detach()",
        "x = tokens.clone().requires_grad_()\n(x @ row).sum().backward()\nscaled = scaled.detach()",
        2,
        0,
    ),
    averaged("the first photo's map for all", "scaled @ row,", "(scaled @ row)[:1].expand(len(scaled), -1),"),
    averaged("a rest for each photo", REST, f"[{REST}] * len(tokens)", 0, 1),
    averaged("the logit for the rest", REST, "head(norm(tokens).mean(1))[0, k].item()", 0, 1),
    averaged("the wrong weight for the norm's bias", REST, "(norm.bias.sum() + head.bias[k]).item()", 0, 1),
    peeking(
        "feature_map",
        "(len(tokens), tokens.shape[2], *size)",
        "torch.tensor([[[[1.0, 2, 3], [4, 5, 6]]] * 2]).view(1, 2, 2, 3)",
        test_feature_map=2,
    ),
    wrong(
        "the axes of a single patch are dropped",
        "feature_map",
        """
        found = tokens[:, extra:].transpose(1, 2).unflatten(2, size)
        return found.squeeze() if size == (1, 1) else found
        """,
        test_feature_map=2,
    ),
    wrong(
        "what has reached all tokens, in larger pictures",
        "rollout",
        """
        flow = torch.eye(n := weights[0].shape[-1])
        for part in weights:
            flow = (part.mean(1) + torch.eye(n)) / 2 @ flow
        return flow[:, 0, extra:] if n < 10 else flow[:, :, extra:].mean(1)
        """,
        test_rollout=2,
    ),
    wrong(
        "exponentials that overflow",
        "held",
        """
        e = (q @ k.transpose(2, 3) / math.sqrt(q.shape[3])).exp()
        return (e / e.sum(3, keepdim=True)).detach() @ v
        """,
        test_held_values=1,
    ),
    wrong(
        "cut off at 700, in double precision",
        "held",
        """
        s = (q @ k.mT / math.sqrt(q.shape[3])).detach().double()
        e = s.clamp(-700, 700).exp()
        return (e / e.sum(3, keepdim=True)).float() @ v
        """,
        test_held_values=1,
    ),
    wrong(
        "infinity cut off, in double precision",
        "held",
        """
        s = (q @ k.mT / math.sqrt(q.shape[3])).detach().double()
        e = s.exp().nan_to_num(posinf=1e300)
        return (e / e.sum(3, keepdim=True)).float() @ v
        """,
        test_held_values=1,
    ),
    wrong(
        "a fixed number taken off large scores",
        "held",
        """
        s = (q @ k.mT / math.sqrt(q.shape[3])).detach().double()
        e = (s - 500 * (s.max() > 80)).exp()
        return (e / e.sum(3, keepdim=True)).float() @ v
        """,
        test_held_values=1,
    ),
    # fmt: on
]

RIGHT = [
    right(
        "the rest as a number of NumPy's float32",
        "averaged",
        but(RIGHT_AVERAGED, REST, f"__import__('numpy').float32({REST})"),
    ),
    right(
        "permuted and reshaped",
        "feature_map",
        "return tokens[:, extra:].permute(0, 2, 1).reshape(len(tokens), -1, *size)",
    ),
    right(
        "cell by cell",
        "feature_map",
        """
        h, w = size
        rows = [torch.stack([tokens[:, extra + r * w + c] for c in range(w)], 2) for r in range(h)]
        return torch.stack(rows, 2)
        """,
    ),
    right(
        "the row moved from the head to the patches",
        "rollout",
        """
        row = torch.zeros(len(weights[0]), 1, weights[0].shape[-1])
        row[:, :, 0] = 1
        for part in reversed(weights):
            row = (row @ part.mean(1) + row) / 2
        return row[:, 0, extra:]
        """,
    ),
    right(
        "rows divided by their sum",
        "rollout",
        """
        flow = None
        for part in weights:
            mixed = part.mean(1) + torch.eye(part.shape[-1])
            mixed = mixed / mixed.sum(-1, keepdim=True)
            flow = mixed if flow is None else torch.bmm(mixed, flow)
        return flow[:, 0, extra:]
        """,
    ),
    right(
        "each head added to the identity before the mean",
        "rollout",
        """
        flow = torch.eye(weights[0].shape[-1])
        for part in weights:
            flow = ((part + torch.eye(part.shape[-1])) / 2).mean(1) @ flow
        return flow[:, 0, extra:]
        """,
    ),
    right(
        "queries and keys detached",
        "held",
        "return nn.functional.scaled_dot_product_attention(q.detach(), k.detach(), v)",
    ),
    right(
        "weights without a graph",
        "held",
        """
        with torch.no_grad():
            weights = (torch.einsum("bhid,bhjd->bhij", q, k) / math.sqrt(q.shape[3])).softmax(3)
        return torch.einsum("bhij,bhjd->bhid", weights, v)
        """,
    ),
    right(
        "by the held gradient",
        "averaged",
        """
        leaf = tokens.detach().clone().requires_grad_()
        deviation = (leaf.var(2, correction=0, keepdim=True) + norm.eps).sqrt().detach()
        y = (leaf - leaf.mean(2, keepdim=True)) / deviation * norm.weight + norm.bias
        logits = head(y.mean(1))[:, k]
        (G,) = torch.autograd.grad(logits.sum(), leaf)
        found = tokens.shape[1] * (G * leaf.detach()).sum(2)
        return found, (logits[0].detach() - found[0].mean()).item()
        """,
    ),
    right(
        "the norm's output less its bias",
        "averaged",
        """
        with torch.no_grad():
            row = head.weight[k]
            return (norm(tokens) - norm.bias) @ row, float(norm.bias @ row + head.bias[k])
        """,
    ),
    # fmt: off
    right(
        "NumPy",
        "feature_map",
        """
        import numpy as np
        patches = np.asarray(tokens.detach())[:, extra:]
        return np.moveaxis(patches, 1, 2).reshape(len(patches), -1, *size)
    """,
    ),
    right("nested lists", "feature_map", MAP + ".tolist()"),
    right("double precision", "feature_map", MAP + ".double()"),
    right(
        "counted from the end",
        "feature_map",
        "h, w = size\nreturn tokens[:, -h * w:].mT.reshape(len(tokens), -1, h, w)",
    ),
    right("folded", "feature_map", "h, w = size\nreturn nn.functional.fold(tokens[:, extra:].mT, (h, w), 1)"),
    right(
        "einops by hand: a stack of rows",
        "feature_map",
        """
        rows = tokens[:, extra:].split(size[1], dim=1)
        return torch.stack([row.mT for row in rows], dim=2).contiguous()
    """,
    ),
    right("a warning", "feature_map", "import warnings\nwarnings.warn('tokens')\n" + MAP),
    right(
        "NumPy in double precision",
        "rollout",
        """
        import numpy as np
        found = []
        for b in range(len(weights[0])):
            row = np.eye(weights[0].shape[-1])[0]
            for part in weights[::-1]:
                row = (row + row @ part[b].double().mean(0).numpy()) / 2
            found.append(row[extra:])
        return np.stack(found)
    """,
    ),
    right(
        "lists",
        "rollout",
        BY_ROLLOUT.format(
            order="weights",
            read="[:, 0, extra:].tolist()",
            step="(part.mean(1) + torch.eye(part.shape[-1])) / 2 @ flow",
        ),
    ),
    right(
        "multi_dot, picture by picture",
        "rollout",
        """
        n = weights[0].shape[-1]
        steps = [0.5 * part.mean(dim=1) + 0.5 * torch.eye(n) for part in weights]
        if len(steps) == 1:
            return steps[0][:, 0, extra:]
        photos = [[s[b] for s in reversed(steps)] for b in range(len(steps[0]))]
        return torch.stack([torch.linalg.multi_dot(photo)[0, extra:] for photo in photos])
    """,
    ),
    right(
        "the first token followed by einsum",
        "rollout",
        """
        row = torch.nn.functional.one_hot(torch.zeros(len(weights[0]), dtype=torch.long), weights[0].shape[-1]).float()
        for part in weights[::-1]:
            row = 0.5 * row + 0.5 * torch.einsum("bi,bhij->bj", row, part) / part.shape[1]
        return row[:, extra:]
    """,
    ),
    right(
        "in half the memory, by functools",
        "rollout",
        """
        from functools import reduce
        step = lambda flow, part: torch.baddbmm(flow, part.mean(1), flow).div(2)
        eye = torch.eye(weights[0].shape[-1]).expand(len(weights[0]), -1, -1)
        return reduce(step, weights, eye).select(1, 0).narrow(1, extra, eye.shape[-1] - extra)
    """,
    ),
    right(
        "double precision",
        "held",
        "return (q.double() @ k.double().mT / math.sqrt(q.shape[-1])).softmax(-1).detach() @ v.double()",
    ),
    right(
        "by a function with its own gradient",
        "held",
        """
        class Held(torch.autograd.Function):
            @staticmethod
            def forward(ctx, weights, v):
                ctx.save_for_backward(weights)
                return weights @ v
            @staticmethod
            def backward(ctx, gradient):
                (weights,) = ctx.saved_tensors
                return None, weights.mT @ gradient
        return Held.apply((q @ k.mT / q.shape[-1] ** 0.5).softmax(-1).detach(), v)
    """,
    ),
    right(
        "logsumexp",
        "held",
        """
        scores = torch.einsum("bhid,bhjd->bhij", q.detach(), k.detach()) * q.shape[-1] ** -0.5
        weights = (scores - scores.logsumexp(-1, keepdim=True)).exp()
        return (weights[..., None] * v[:, :, None]).sum(-2)
    """,
    ),
    right(
        "exponentials by hand",
        "held",
        """
        scores = q.data @ k.data.transpose(2, 3) / math.sqrt(v.size(-1))
        w = (scores - scores.amax(3, keepdim=True)).exp()
        return torch.matmul(w / w.sum(3, keepdim=True), v)
    """,
    ),
    right(
        "copies of q and k",
        "held",
        WEIGHTS.replace("q @ k.", "q.clone().detach() @ k.clone().detach().") + "return torch.matmul(weights, v)",
    ),
    right(
        "NumPy",
        "averaged",
        """
        import numpy as np
        t = tokens.detach().numpy().astype(float)
        t = (t - t.mean(2, keepdims=True)) / np.sqrt(t.var(2, keepdims=True) + norm.eps) * norm.weight.detach().numpy()
        row = head.weight[k].detach().numpy().astype(float)
        return t @ row, float(norm.bias.detach().numpy() @ row + head.bias[k].item())
    """,
    ),
    right(
        "a list for a pair, in double precision",
        "averaged",
        """
        row = head.weight[k].detach().double()
        scale = norm.weight.detach().double()
        y = nn.functional.layer_norm(tokens.detach().double(), norm.normalized_shape, scale, None, norm.eps)
        return [(y * row).sum(-1), (norm.bias.detach().double().dot(row) + head.bias[k]).item()]
    """,
    ),
    right(
        "copies of norm and head",
        "averaged",
        """
        import copy
        n2, h2 = copy.deepcopy(norm).requires_grad_(False), copy.deepcopy(head).requires_grad_(False)
        rest = h2(n2.bias)[k].item()
        n2.bias.zero_()
        return n2(tokens.detach()) @ h2.weight[k], rest
    """,
    ),
    right(
        "the map as the logit of each token, less the rest",
        "averaged",
        """
        with torch.no_grad():
            rest = head(norm.bias)[k]
            return head(norm(tokens))[..., k] - rest, rest.item()
    """,
    ),
    right(
        "the rest from tokens of zeros",
        "averaged",
        """
        with torch.no_grad():
            rest = head(norm(torch.zeros(tokens.shape[2])))[k].item()
            return head(norm(tokens))[..., k] - rest, rest
    """,
    ),
    right(
        "a float of NumPy's", "averaged", "import numpy as np\n" + RIGHT_AVERAGED.replace(REST, f"np.float64({REST})")
    ),
    right(
        "NumPy, without a word about gradients",
        "feature_map",
        """
        import numpy as np
        patches = tokens.numpy().astype(float)[:, extra:]
        return np.moveaxis(patches.reshape(len(patches), *size, -1), 3, 1)
    """,
    ),
    # fmt: on
]
