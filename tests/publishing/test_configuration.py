from __future__ import annotations

import json

import pytest

from bhk.container.header import Header, ModelEntry
from bhk.publishing.configuration import StoredConfigError, make_config

CODED = {"quant_method": "bhk", "file": "model.bhk"}


def _header(config: str | None = None, model: ModelEntry | None = None) -> Header:
    return Header("bhk 1", (), metadata={} if config is None else {"file.config.json": config}, model=model)


def test_a_transformers_config_is_the_original_with_the_weight_file() -> None:
    text = make_config(_header('{"model_type":"sam","a":{"z":1,"b":[1e-06,null]}}'), "model.bhk")
    config = json.loads(text)
    assert config == {
        "model_type": "sam",
        "a": {"z": 1, "b": [1e-06, None]},
        "quantization_config": CODED,
        "transformers_weights": "model.bhk",
    }
    assert list(config)[:2] == ["model_type", "a"]
    assert text == json.dumps(config, indent=2) + "\n"


def test_another_config_says_what_the_header_says() -> None:
    config = json.loads(make_config(_header(model=ModelEntry("sam", "sam_vit_b", {"width": 768})), "model.bhk"))
    assert config == {
        "bhk": {"family": "sam", "variant": "sam_vit_b", "arguments": {"width": 768}},
        "quantization_config": CODED,
    }


def test_the_config_of_an_unknown_model_names_the_weight_file() -> None:
    assert json.loads(make_config(_header(), "other name.bhk")) == {
        "quantization_config": {"quant_method": "bhk", "file": "other name.bhk"}
    }


def test_making_a_config_from_itself_changes_nothing() -> None:
    text = make_config(_header('{"model_type":"sam","x":"\\ud800 é"}'), "model.bhk")
    assert make_config(_header(text), "model.bhk") == text
    text.encode("utf-8")


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        ("{", "invalid JSON"),
        ("[]", "not an object"),
        ('{"a":1,"a":2}', "'a' occurs twice"),
        ('{"model_type":"sam","x":NaN}', "NaN"),
        ('{"quantization_config":{"quant_method":"gptq"}}', "gptq.*before that quantization"),
        ('{"quantization_config":"int8"}', "int8.*before that quantization"),
    ],
)
def test_a_stored_config_that_cannot_be_published_is_refused(stored: str, message: str) -> None:
    with pytest.raises(StoredConfigError, match=message) as caught:
        make_config(_header(stored), "model.bhk")
    assert str(caught.value).isprintable()
