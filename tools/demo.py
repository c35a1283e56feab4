"""`make demo`: a really trained model to .bhk and back, with the commands a user would type.

The model is all-MiniLM-L6-v2, a sentence encoder of 22.7 M parameters whose weights come inside a Python package.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

from safetensors.torch import load_file

import bhk
from tools.bench.sentence_encoder import CHECKPOINT, embed, load_sentences, tokenize

OUT = Path("demo_out")


def run(*arguments: str) -> None:
    """Run a bhk command and show it as typed."""
    print(f"\n$ bhk {' '.join(arguments)}", flush=True)
    subprocess.run([Path(sys.executable).with_name("bhk"), *arguments], cwd=OUT, check=True)


def main() -> None:
    OUT.mkdir(exist_ok=True)
    source = OUT / "minilm.safetensors"
    shutil.copyfile(CHECKPOINT, source)
    run("convert", "minilm.safetensors", "--force")
    run("inspect", "minilm.bhk", "--by", "role")
    run("inspect", "minilm.bhk", "--sort", "bytes", "--top", "5")
    run("verify", "minilm.bhk", "--against", "minilm.safetensors")
    run("export", "minilm.bhk", "restored.safetensors", "--force")
    run("diff", "minilm.bhk", "restored.safetensors")

    print("\nThe same sentences through the original and through what the .bhk file holds:")
    original = load_file(source)
    started = time.perf_counter()
    decoded = bhk.load_state_dict(OUT / "minilm.bhk")
    seconds = time.perf_counter() - started
    restored = load_file(OUT / "restored.safetensors")
    tokens, mask = tokenize(load_sentences())
    reference = embed(original, tokens, mask)
    for label, weights in (("loaded from .bhk", decoded), ("exported and loaded", restored)):
        distance = 1 - (reference * embed(weights, tokens, mask)).sum(dim=1)
        print(
            f"  {label}: mean 1 - cosine {distance.mean():.1e} over {len(tokens)} sentences, largest {distance.max():.1e}"
        )
    sizes = [path.stat().st_size for path in (source, OUT / "minilm.bhk")]
    print(
        f"\n{sizes[0] / 1e6:.1f} MB became {sizes[1] / 1e6:.1f} MB ({sizes[0] / sizes[1]:.2f} times smaller), ", end=""
    )
    print(f"loaded again in {seconds:.2f} s. The files are in {OUT}/.")


if __name__ == "__main__":
    main()
