import pytest

from harbor_nb.sandbox import Image, Sandbox


@pytest.fixture
async def sandbox():
    started = await Sandbox.start(Image(), name="test")
    yield started
    await started.stop()
