from __future__ import annotations

import subprocess
import sys
from importlib import util

import bhk


def test_models_are_listed_with_what_they_need() -> None:
    found = {model.name: model for model in bhk.models().models}
    assert found["sam_vit_h"].packages == ("segment_anything",)
    assert found["mobile_sam"].packages == ("mobile_sam", "segment_anything_hq")
    assert found["mobile_sam"].ratio is not None
    assert found["tinysam"].packages == ("tinysam",)
    forks = {"edgetam", "sam2.1_hq_hiera_large", "sam_med2d"}  # their packages have the names of others
    for model in found.values():
        if model.name not in forks:
            assert model.installed == next((name for name in model.packages if util.find_spec(name)), None)


def test_the_list_needs_no_torch_and_imports_no_package() -> None:
    code = (
        "import sys, bhk; bhk.models(); print({'torch', 'sam2', 'segment_anything', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
