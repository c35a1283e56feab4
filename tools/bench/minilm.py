"""Rate and fidelity on a trained model: the whole all-MiniLM-L6-v2 checkpoint, by bhk and by its peers.

Rate: bytes of the tensors in the checkpoint over bytes of the compressed file, everything counted. Fidelity: mean and
largest 1 - cosine between the embeddings that the original and the decoded weights give to 200 sentences.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from bhk.codec.fit import PresetError
from tools.bench.coders.bhk import Bhk
from tools.bench.coders.peers import Coder, installed, peers
from tools.bench.frame.results import environment, median_seconds, require_bhk, show, version, write_csv
from tools.bench.models.sentence_encoder import CHECKPOINT, embed, load_sentences, tokenize

PRESETS = ("fine", "balanced", "small", "birkhoff")
SHOWN = (
    "coder",
    "setting",
    "bytes",
    "ratio",
    "mean_1_minus_cos",
    "max_1_minus_cos",
    "encode_seconds",
    "decode_seconds",
)


def coders() -> Iterator[Coder]:
    yield from (Bhk(preset) for preset in PRESETS)
    yield from peers()


def measure(coder: Coder, original: Tensor, tokens: Tensor, mask: Tensor, folder: Path) -> dict[str, object]:
    """Encode, decode, run the decoded model; `original` are the embeddings (N, 384) of the original weights."""
    if not installed(coder):
        return _row(coder, {}, f"not installed: pip install {coder.package}")
    target = folder / "compressed.bhk"
    try:
        encode_seconds = median_seconds(lambda: coder.encode(CHECKPOINT, target))
    except PresetError as error:  # a ratio out of reach
        return _row(coder, {}, str(error))
    decode_seconds = median_seconds(lambda: coder.decode(target))
    decoded = embed(coder.decode(target), tokens, mask)
    loss = 1 - functional.cosine_similarity(decoded.double(), original.double())
    figures = {
        "bytes": target.stat().st_size,
        "ratio": f"{_tensor_bytes() / target.stat().st_size:.3f}",
        "mean_1_minus_cos": f"{loss.mean():.2e}",
        "max_1_minus_cos": f"{loss.max():.2e}",
        "encode_seconds": f"{encode_seconds:.2f}",
        "decode_seconds": f"{decode_seconds:.2f}",
    }
    target.unlink()
    return _row(coder, figures, coder.note)


def _tensor_bytes() -> int:
    return sum(tensor.nbytes for tensor in load_file(CHECKPOINT).values())


def _row(coder: Coder, figures: dict[str, object], note: str) -> dict[str, object]:
    figures = {column: figures.get(column, "") for column in SHOWN[2:]}
    named = {"coder": coder.name, "setting": coder.setting, **figures, "note": note, "version": version(coder.package)}
    return named | environment()


def run(chosen: Iterator[Coder]) -> list[dict[str, object]]:
    tokens, mask = tokenize(load_sentences())
    original = embed(load_file(CHECKPOINT), tokens, mask)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for coder in chosen:
            Console(stderr=True).print(f"{coder.name} {coder.setting} ...")
            rows.append(measure(coder, original, tokens, mask, Path(folder)))
    return rows


def main() -> None:
    require_bhk("convert", "load_state_dict")
    rows = run(coders())
    show(rows, SHOWN)
    print(write_csv("minilm", rows))


if __name__ == "__main__":
    main()
