"""Publish a compressed model on the Hugging Face Hub, with a card that says how closely its masks match the original's.

    python examples/publish.py                                                   # shows what would be published
    python examples/publish.py sam_b.bhk --against sam_vit_b_01ec64.pth --images photos/ --repository user/sam-b-bhk --send

The token comes from `hf auth login` or the environment variable HF_TOKEN. A second run only sends what has changed.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import bhk

DEMO = Path(__file__).with_name("demo")


def evaluate(model: Path, against: Path, images: Path, points: int) -> bhk.FidelityReport:
    """Compare the masks of the file with those of its original."""
    settings = bhk.FidelitySettings(points=points, boxes=points // 2)
    return bhk.fidelity(model, images, against=against, settings=settings, workers=1)


def main(arguments: Sequence[str] | None = None) -> bhk.PushReport:
    """Publish the file given on the command line, or show what would be published for the demo model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", type=Path, help="a .bhk file")
    parser.add_argument("--against", type=Path, help="the checkpoint that it was made from")
    parser.add_argument("--images", type=Path, default=DEMO / "pictures", help="pictures to compare masks in")
    parser.add_argument("--points", type=int, default=8, help="prompts per picture; boxes are half as many")
    parser.add_argument("--repository", default="user/demo-sam-bhk")
    parser.add_argument("--base-model", metavar="USER/REPO", help="the original on the Hub")
    parser.add_argument("--license", help="of the weights, such as apache-2.0")
    parser.add_argument("--send", action="store_true", help="really publish it")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        model, original = options.model, options.against
        if model is None:
            original = DEMO / "demo_sam.safetensors"
            model = bhk.convert(original, Path(folder) / "demo_sam.bhk").path
        results = ()
        if original is not None:
            results = evaluate(model, original, options.images, options.points)
        report = bhk.push(
            model,
            options.repository,
            card=bhk.Card(base_model=options.base_model, license=options.license, evaluation=results),
            dry_run=not options.send,
        )
    print(report.card)
    for file in report.files:
        print(f"{file.state:9} {file.bytes:10,} bytes  {file.name}")
    for hint in report.hints:
        print(hint)
    print(f"published: {report.url}" if options.send else "nothing was sent; --send publishes it")
    return report


if __name__ == "__main__":
    main()
