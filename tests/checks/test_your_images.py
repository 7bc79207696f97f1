"""Chapter 11's check names the mistake, and its folded solution passes."""

import pytest
from checks import your_images as check

from tests.checks.solutions import run_solution


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda h, w: None, "No answer yet"),
        (lambda h, w: "half", "one number"),
        (lambda h, w: (0.5, 0.5), "one number"),
        (lambda h, w: 0.765625 * min(h, w) / max(h, w), "Right: "),
        (lambda h, w: 224 * 224 / (round(h * 256 / min(h, w)) * round(w * 256 / min(h, w))), "Right: "),
        (lambda h, w: 76.5625 * min(h, w) / max(h, w), "percentages"),
        (lambda h, w: min(h, w) / max(h, w), "largest square"),
        (lambda h, w: 0.875 * min(h, w) / max(h, w), "Square the 224 / 256"),
        (lambda h, w: 224 * 224 / (h * w), "forgot the resize"),
        (lambda h, w: 0.765625 * w / h, "portraits only"),
        (lambda h, w: 0.765625 * h / w, "landscapes only"),
        (lambda h, w: 1 - 0.765625 * min(h, w) / max(h, w), "share that is lost"),
        (lambda h, w: max(h, w) / min(h, w) / 0.765625, "Upside down"),
        (lambda h, w: 0.765625, "square photo"),
        (lambda h, w: 0.4, "Not yet"),
    ],
)
def test_share_seen(answer, says):
    assert says in check.share_seen(answer)


def test_solution_passes(capsys):
    assert "Right: " in run_solution("11_your_images", capsys, check=check)
