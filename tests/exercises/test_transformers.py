"""Every known mistake in the exercise on transformers loses its points, and no right answer loses any."""

from tests.exercises.grading import right, wrong

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
    ROW + "scaled = nn.functional.layer_norm(tokens, norm.normalized_shape, norm.weight.detach(), None, norm.eps)\n"
)
REST = "(norm.bias @ row + head.bias[k]).item()"

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
]

RIGHT = [
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
]
