import pytest

from m3video.model.m3.checkpoint import LoadedModel
from tests.evaluation.natural.made import chatml_model


@pytest.fixture(scope="session")
def tiny_chatml(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return chatml_model(tmp_path_factory.mktemp("chatml"))
