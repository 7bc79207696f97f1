"""What several test files share."""

import pytest

from camlib import load_model, read_image
from tests.fake_mps import mps as mps  # a fixture


@pytest.fixture(scope="session")
def clf():
    """The bundled network, loaded once."""
    return load_model()


@pytest.fixture(scope="session")
def cat():
    return read_image("data/photos/cat.jpg")
