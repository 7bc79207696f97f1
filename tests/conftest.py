"""What several test files share."""

import pytest
import torch

from camlib import load_model, read_image
from tests.fake_mps import mps as mps  # a fixture

# On NVIDIA GPUs, PyTorch rounds what convolutions multiply to 10 bits (TF32), so a map there differs from the
# CPU's by up to 0.2 % of its largest value. Tests compare the two, so they ask for whole float32.
torch.backends.cudnn.allow_tf32 = False


@pytest.fixture(scope="session")
def clf():
    """The bundled network, loaded once."""
    return load_model()


@pytest.fixture(scope="session")
def cat():
    return read_image("data/photos/cat.jpg")
